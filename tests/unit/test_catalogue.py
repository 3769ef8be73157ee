from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from miclip.catalogue import DEMO_CLIP, DEMO_MODELS, Catalogue, Entry, default_id, load_clip, pick_device
from miclip.demo.architectures import emoji_resnet, emoji_vit
from miclip.errors import AlreadyExists, BadArtefact, InvalidInput, NotFound
from miclip.models.files import TargetSpec, clip_state, demo_clip_spec, write_model
from miclip.models.preprocessing import Preprocessing
from miclip.settings import settings

LABELS = ("dog", "cat", "bus")
LAYERS = {
    "emoji-resnet": (emoji_resnet, ("layer1", "layer2", "layer3", "layer4")),
    "emoji-vit": (emoji_vit, ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "norm")),
}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo's files with untrained models, as the demo build writes them."""
    for name, (build, layers) in LAYERS.items():
        spec = TargetSpec(
            architecture=f"miclip.demo.architectures:{build.__name__}",
            labels=LABELS,
            layers=layers,
            preprocessing=Preprocessing(64, resize="squash", interpolation="bilinear"),
        )
        write_model(tmp_path / "demo", name, spec, build(len(LABELS)).state_dict(), half=True)
    return tmp_path / "demo"


@pytest.fixture
def catalogue(demo: Path, tmp_path: Path) -> Catalogue:
    return Catalogue(demo, tmp_path / "imported")


@pytest.fixture
def resnet(tmp_path: Path) -> str:
    import timm

    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    save_file(state, tmp_path / "resnet18.safetensors")
    torch.save(state, tmp_path / "resnet18.pth")
    return str(tmp_path / "resnet18.pth")


@pytest.mark.parametrize("name", LAYERS)
def test_demo_models_load_and_run(catalogue: Catalogue, name: str) -> None:
    model = catalogue.load_target(name, "cpu")
    assert (model.name, model.labels, model.input_size) == (name, LABELS, 64)
    assert tuple(model.layers) == (*LAYERS[name][1], "logits")
    image = torch.randint(0, 256, (3, 100, 80), dtype=torch.uint8)
    assert model.forward(model.preprocess(image)[None]).logits.shape == (1, 3)


def test_the_same_files_give_the_same_weights_hash(catalogue: Catalogue) -> None:
    hashes = {catalogue.load_target("emoji-vit", "cpu").weights_sha256 for _ in range(2)}
    assert len(hashes) == 1


def test_the_demo_is_there_without_any_other_model(catalogue: Catalogue) -> None:
    assert catalogue.model_ids() == ["emoji-resnet", "emoji-vit"]


@pytest.mark.parametrize("name", ["", "emoji", "../demo/emoji-resnet", "emoji-resnet.json", "/etc/passwd", "x" * 9999])
def test_an_unknown_model_is_not_found_and_the_known_ones_are_listed(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(NotFound, match="emoji-resnet, emoji-vit") as caught:
        catalogue.load_target(name)
    assert len(str(caught.value)) < 300


def test_the_clip_is_no_target(catalogue: Catalogue, demo: Path) -> None:
    from open_clip.timm_model import TimmModel

    tower = TimmModel("tf_efficientnet_lite0", 384, image_size=64, pool="avg", proj="linear")
    write_model(demo, DEMO_CLIP, demo_clip_spec(), clip_state(tower, 3.0), half=True)
    assert DEMO_CLIP not in catalogue.model_ids()
    assert catalogue.load_clip("cpu").embed_texts(["dog"]).shape == (1, 384)


def test_an_imported_checkpoint_is_served_from_safetensors(
    catalogue: Catalogue, resnet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = catalogue.import_model("mine", "timm/test_resnet", resnet, labels=LABELS)
    Path(resnet).unlink()
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a pickle was read when serving"))
    served = catalogue.load_target("mine", "cpu")
    assert catalogue.model_ids() == ["emoji-resnet", "emoji-vit", "mine"]
    assert served.weights_sha256 == imported.weights_sha256
    images = torch.randn(1, 3, served.input_size, served.input_size)
    assert torch.equal(served.forward(images).logits, imported.forward(images).logits)


@pytest.mark.parametrize("name", ["emoji-resnet", "mine"])
def test_a_taken_id_is_refused(catalogue: Catalogue, resnet: str, name: str) -> None:
    catalogue.import_model("mine", "timm/test_resnet", resnet, labels=LABELS)
    with pytest.raises(AlreadyExists, match=name):
        catalogue.import_model(name, "timm/test_resnet", resnet, labels=LABELS)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "a..b"])
def test_an_id_that_is_no_name_is_refused(catalogue: Catalogue, resnet: str, name: str) -> None:
    with pytest.raises(InvalidInput):
        catalogue.import_model(name, "timm/test_resnet", resnet, labels=LABELS)


def test_a_failed_import_leaves_nothing_behind(catalogue: Catalogue, resnet: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        catalogue.import_model("mine", "timm/test_resnet", resnet, labels=LABELS[:2])
    with pytest.raises(NotFound):
        catalogue.import_model("mine", "timm/test_resnet", resnet, labels=LABELS, layers=["nowhere"])
    assert not (tmp_path / "imported").exists()


def file_with(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "catalogue.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_models_of_the_catalogue_file_load(demo: Path, resnet: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    entry = {
        "source": "timm/test_resnet",
        "weights": str(Path(resnet).with_suffix(".safetensors")),
        "labels": str(tmp_path / "labels.txt"),
        "layers": ["layer3", "layer4"],
    }
    catalogue = Catalogue(demo, tmp_path / "imported", file_with(tmp_path, {"models": {"filed": entry}}))
    assert catalogue.model_ids() == ["emoji-resnet", "emoji-vit", "filed"]
    assert catalogue.load_target("filed", "cpu").layer_sizes == {"layer3": 192, "layer4": 96, "logits": 3}


def test_a_checkpoint_in_the_catalogue_file_is_not_read(demo: Path, resnet: str, tmp_path: Path) -> None:
    file = file_with(tmp_path, {"models": {"filed": {"source": "timm/test_resnet", "weights": resnet}}})
    with pytest.raises(InvalidInput, match="not safetensors"):
        Catalogue(demo, tmp_path / "imported", file).load_target("filed")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", {"models": []}, {"models": {"a": 1}}, {"models": {"a": {"source": "timm/test_resnet"}}},
     {"models": {"a": {"source": "a", "weights": "hub", "wights": "typo"}}}],
)  # fmt: skip
def test_a_broken_catalogue_file_is_refused(demo: Path, tmp_path: Path, content: Any) -> None:
    with pytest.raises(BadArtefact, match=r"catalogue\.json"):
        Catalogue(demo, tmp_path / "imported", file_with(tmp_path, content))


def test_an_id_of_the_catalogue_file_must_be_a_name(demo: Path, tmp_path: Path) -> None:
    file = file_with(tmp_path, {"models": {"../x": {"source": "timm/test_resnet", "weights": "hub"}}})
    with pytest.raises(InvalidInput):
        Catalogue(demo, tmp_path / "imported", file)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_broken_demo_files_are_refused(catalogue: Catalogue, demo: Path, suffix: str) -> None:
    file = demo / f"emoji-vit.{suffix}"
    spec = json.loads((demo / "emoji-vit.json").read_text())
    file.write_text(json.dumps(spec | {"format": 2}) if suffix == "json" else "")
    with pytest.raises(BadArtefact, match="emoji-vit"):
        catalogue.load_target("emoji-vit")
    assert catalogue.load_target("emoji-resnet").name == "emoji-resnet"


def test_an_architecture_outside_miclip_is_not_imported(catalogue: Catalogue, demo: Path) -> None:
    spec = json.loads((demo / "emoji-vit.json").read_text())
    (demo / "emoji-vit.json").write_text(json.dumps(spec | {"architecture": "os:getcwd"}))
    with pytest.raises(InvalidInput, match="architecture of miclip"):
        catalogue.load_target("emoji-vit")


def test_default_ids_are_names(catalogue: Catalogue, resnet: str) -> None:
    assert default_id("timm/test_resnet") == "timm-test_resnet"
    catalogue.import_model(default_id("timm/test_resnet"), "timm/test_resnet", resnet, labels=LABELS)


def test_devices_are_resolved_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (pick_device("auto"), pick_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(InvalidInput, match="not available"):
        pick_device("cuda")
    with pytest.raises(InvalidInput, match="auto"):
        pick_device("teapot")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (pick_device("auto"), pick_device("cuda:1"), pick_device()) == ("cuda", "cuda:1", "cuda")


def test_another_clip_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MICLIP_CLIP", "no-such-clip")
    monkeypatch.setenv("MICLIP_CLIP_WEIGHTS", str(tmp_path / "none.safetensors"))
    settings.cache_clear()
    try:
        with pytest.raises(InvalidInput, match="no-such-clip"):
            load_clip("cpu")
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_the_packaged_folder_lies_in_the_package() -> None:
    assert DEMO_MODELS.parts[-4:] == ("miclip", "demo", "assets", "models")


def test_relative_files_are_in_the_folder_of_the_catalogue_file(tmp_path: Path) -> None:
    entry = Entry(source="timm/x", weights="w.safetensors", labels=Path("labels.txt")).within(tmp_path)
    assert (entry.weights, entry.labels) == (str(tmp_path / "w.safetensors"), tmp_path / "labels.txt")
    assert Entry(source="timm/x", weights="hub:tag").within(tmp_path).weights == "hub:tag"
    assert Entry(source="timm/x", weights="/w.safetensors").within(tmp_path).weights == "/w.safetensors"
