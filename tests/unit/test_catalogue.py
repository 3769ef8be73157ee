from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from miclip.bundles import Bundle, BundleManifest, bundle_of_model, bundled_probe_sets, bundles
from miclip.bundles.manifest import MANIFEST
from miclip.catalogue import Catalogue, load_clip, pick_device
from miclip.demo.assets import DEMO
from miclip.errors import AlreadyExists, BadArtefact, InvalidInput, NotFound
from miclip.models.entries import Entry
from miclip.models.files import ClipSpec, TargetSpec, clip_state, read_spec, write_model
from miclip.models.preprocessing import Preprocessing
from miclip.models.small import SMALL
from miclip.models.sources import default_id
from miclip.retrieval.vocabulary import builtin_vocabularies
from miclip.settings import settings

LABELS = ("dog", "cat", "bus")
LAYERS = {
    "emoji-resnet": ("resnet", ("layer1", "layer2", "layer3", "layer4")),
    "emoji-vit": ("vit", ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "norm")),
}


@pytest.fixture
def demo(tmp_path: Path) -> Bundle:
    """The demo's bundle with untrained models, as its factory writes them."""
    bundle = Bundle(tmp_path / "demo")
    for name, (architecture, layers) in LAYERS.items():
        spec = TargetSpec(
            architecture=f"miclip/{architecture}",
            labels=LABELS,
            layers=layers,
            preprocessing=Preprocessing(64, resize="squash", interpolation="bilinear"),
        )
        write_model(bundle.models, name, spec, SMALL[architecture](len(LABELS)).state_dict(), half=True)
    manifest = BundleManifest(name="demo", clip="emoji-clip")
    (bundle.folder / MANIFEST).write_text(manifest.model_dump_json())
    return bundle


@pytest.fixture
def catalogue(demo: Bundle, tmp_path: Path) -> Catalogue:
    return Catalogue([demo], tmp_path / "imported")


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


def test_the_clip_is_no_target(catalogue: Catalogue, demo: Bundle) -> None:
    from open_clip.timm_model import TimmModel

    tower = TimmModel("tf_efficientnet_lite0", 384, image_size=64, pool="avg", proj="linear")
    spec = read_spec(DEMO.models, "emoji-clip", ClipSpec)
    write_model(demo.models, "emoji-clip", spec, clip_state(tower, 3.0), half=True)
    assert "emoji-clip" not in catalogue.model_ids()
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


def test_models_of_the_catalogue_file_load(demo: Bundle, resnet: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    entry = {
        "source": "timm/test_resnet",
        "weights": str(Path(resnet).with_suffix(".safetensors")),
        "labels": str(tmp_path / "labels.txt"),
        "layers": ["layer3", "layer4"],
    }
    catalogue = Catalogue([demo], tmp_path / "imported", file_with(tmp_path, {"models": {"filed": entry}}))
    assert catalogue.model_ids() == ["emoji-resnet", "emoji-vit", "filed"]
    assert catalogue.load_target("filed", "cpu").layer_sizes == {"layer3": 192, "layer4": 96, "logits": 3}


def test_a_checkpoint_in_the_catalogue_file_is_not_read(demo: Bundle, resnet: str, tmp_path: Path) -> None:
    file = file_with(tmp_path, {"models": {"filed": {"source": "timm/test_resnet", "weights": resnet}}})
    with pytest.raises(InvalidInput, match="not safetensors"):
        Catalogue([demo], tmp_path / "imported", file).load_target("filed")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", {"models": []}, {"models": {"a": 1}}, {"models": {"a": {"source": "timm/test_resnet"}}},
     {"models": {"a": {"source": "a", "weights": "hub", "wights": "typo"}}}],
)  # fmt: skip
def test_a_broken_catalogue_file_is_refused(demo: Bundle, tmp_path: Path, content: Any) -> None:
    with pytest.raises(BadArtefact, match=r"catalogue\.json"):
        Catalogue([demo], tmp_path / "imported", file_with(tmp_path, content))


def test_an_id_of_the_catalogue_file_must_be_a_name(demo: Bundle, tmp_path: Path) -> None:
    file = file_with(tmp_path, {"models": {"../x": {"source": "timm/test_resnet", "weights": "hub"}}})
    with pytest.raises(InvalidInput):
        Catalogue([demo], tmp_path / "imported", file)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_broken_demo_files_are_refused(catalogue: Catalogue, demo: Bundle, suffix: str) -> None:
    file = demo.models / f"emoji-vit.{suffix}"
    spec = json.loads((demo.models / "emoji-vit.json").read_text())
    file.write_text(json.dumps(spec | {"format": 2}) if suffix == "json" else "")
    with pytest.raises(BadArtefact, match="emoji-vit"):
        catalogue.load_target("emoji-vit")
    assert catalogue.load_target("emoji-resnet").name == "emoji-resnet"


@pytest.mark.parametrize(
    ("architecture", "parameters", "message"),
    [("os:getcwd", {}, "timm/NAME"), ("miclip/getcwd", {}, "no architecture"), ("miclip/vit", {"name": "x"}, "card")],
)
def test_an_architecture_that_nobody_offers_is_refused(
    catalogue: Catalogue, demo: Bundle, architecture: str, parameters: dict[str, str], message: str
) -> None:
    spec = json.loads((demo.models / "emoji-vit.json").read_text())
    (demo.models / "emoji-vit.json").write_text(
        json.dumps(spec | {"architecture": architecture, "parameters": parameters})
    )
    with pytest.raises(InvalidInput, match=message):
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


def test_the_default_bundle_is_the_one_in_the_package() -> None:
    assert bundles() == (DEMO,)


def test_a_bundle_of_ones_own_takes_the_demos_place(
    demo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (demo.models / "emoji-vit.json").rename(demo.models / "mine.json")
    monkeypatch.setenv("MICLIP_BUNDLES", json.dumps([str(demo.folder)]))
    monkeypatch.setenv("MICLIP_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    try:
        assert Catalogue().model_ids() == ["emoji-resnet", "mine"]
        assert bundle_of_model("mine") == demo
        assert bundle_of_model("emoji-vit") is None
        assert bundled_probe_sets() == {}
        assert builtin_vocabularies() == ("imagenet", "model-labels")
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_a_process_without_bundles_has_no_clip_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="MICLIP_CLIP"):
        Catalogue([], tmp_path / "imported").load_clip("cpu")


@pytest.mark.parametrize("content", ["", "{}", '{"format": 2, "name": "x"}', '{"name": "../x"}'])
def test_a_broken_manifest_of_a_bundle_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(BadArtefact, match="MICLIP_BUNDLES"):
        Bundle(tmp_path).manifest  # noqa: B018


def test_an_import_writes_the_card_that_answers_without_loading(
    catalogue: Catalogue, resnet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = catalogue.import_model("mine", "timm/test_resnet", resnet, labels=LABELS)
    assert [path.name for path in (tmp_path / "cards").iterdir()] == ["mine.json"]
    later = Catalogue([], tmp_path / "imported")
    monkeypatch.setattr(later, "load_target", lambda *_: pytest.fail("the model was loaded"))
    card = later.card("mine")
    assert (card.labels, card.weights_sha256) == (LABELS, imported.weights_sha256)
    assert {layer.name: layer.units for layer in card.layers} == imported.layer_sizes
    with pytest.raises(NotFound):
        later.card("other")


def test_a_card_knows_the_dictionaries_and_is_stale_once_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(DEMO.folder, folder, ignore=shutil.ignore_patterns("images", "atlases"))
    first = Catalogue([Bundle(folder)], tmp_path / "imported").card("emoji-resnet")
    features = {layer.name: layer.dictionary for layer in first.layers if layer.kind == "features"}
    assert len(features) == 2
    assert all(card and len(card.sha256) == 64 and card.quality for card in features.values())
    shutil.rmtree(folder / "models" / "emoji-resnet.dictionaries" / "topk-256")
    second = Catalogue([Bundle(folder)], tmp_path / "imported").card("emoji-resnet")
    assert len(second.layers) == len(first.layers) - 1
    assert second.bytes < first.bytes


def test_where_no_card_can_be_written_it_is_kept_in_memory(
    demo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cards").write_text("a file where the folder should be")
    catalogue = Catalogue([demo], tmp_path / "imported")
    card = catalogue.card("emoji-vit")
    monkeypatch.setattr(catalogue, "load_target", lambda *_: pytest.fail("the model was loaded again"))
    assert catalogue.card("emoji-vit") == card


def test_the_card_of_a_filed_model_is_stale_once_its_weights_change(demo: Bundle, resnet: str, tmp_path: Path) -> None:
    weights, entry = Path(resnet).with_suffix(".safetensors"), {"source": "timm/test_resnet"}
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    entry |= {"weights": str(weights), "labels": str(tmp_path / "labels.txt")}
    file = file_with(tmp_path, {"models": {"filed": entry}})
    first = Catalogue([demo], tmp_path / "imported", file).card("filed")
    save_file({name: tensor * 2 for name, tensor in load_file(weights).items()}, weights)
    assert Catalogue([demo], tmp_path / "imported", file).card("filed").weights_sha256 != first.weights_sha256


def test_relative_files_are_in_the_folder_of_the_catalogue_file(tmp_path: Path) -> None:
    entry = Entry(source="timm/x", weights="w.safetensors", labels=Path("labels.txt")).within(tmp_path)
    assert (entry.weights, entry.labels) == (str(tmp_path / "w.safetensors"), tmp_path / "labels.txt")
    assert Entry(source="timm/x", weights="hub:tag").within(tmp_path).weights == "hub:tag"
    assert Entry(source="timm/x", weights="/w.safetensors").within(tmp_path).weights == "/w.safetensors"
