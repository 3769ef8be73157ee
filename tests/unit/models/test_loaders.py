from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from miclip.errors import BadArtefact, InvalidInput
from miclip.models import _torchvision  # noqa: F401  (before timm, torchvision and open_clip)
from miclip.models.clip import load_open_clip
from miclip.models.families import build_family
from miclip.models.files import TargetSpec, read_spec, read_state, write_model
from miclip.models.labels import imagenet_labels, read_labels
from miclip.models.loaders import as_target, build_target, load_foreign
from miclip.models.sources import Given
from miclip.models.target import LayerKind, TargetModel
from miclip.models.weights import import_weights

LABELS = [f"class {index}" for index in range(7)]
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def save(module: nn.Module, path: Path) -> str:
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


def load(source: str, weights: str, **options: Any) -> TargetModel:
    spec, module = load_foreign(source, weights, Given(**options))
    return as_target("mine", spec, module)


def timm_resnet() -> nn.Module:
    import timm

    return timm.create_model("resnet18", num_classes=len(LABELS)).eval()


def run(module: nn.Module, size: int) -> tuple[Tensor, Tensor]:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return images, module(images).clone()


@pytest.mark.parametrize("file", ["model.safetensors", "model.pth"])
def test_a_timm_resnet_loads_from_either_kind_of_file(tmp_path: Path, file: str) -> None:
    module = timm_resnet()
    target = load("timm/resnet18", save(module, tmp_path / file), labels=LABELS)
    images, expected = run(module, 224)
    torch.testing.assert_close(target.forward(images).logits, expected)
    assert target.layer_sizes == {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512, "logits": 7}
    assert target.labels == tuple(LABELS)
    assert target.input_size == 224


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    ],
    ids=["state_dict", "model", "module."],
)
def test_usual_wrappings_of_a_checkpoint_are_unwrapped(tmp_path: Path, wrap: Any) -> None:
    state = timm_resnet().state_dict()
    torch.save(wrap(state), tmp_path / "model.pt")
    found = import_weights(tmp_path / "model.pt")
    assert found.keys() == state.keys()


def test_a_torchvision_resnet_loads_with_its_own_preprocessing(tmp_path: Path) -> None:
    from torchvision import models

    module = models.resnet18(num_classes=len(LABELS)).eval()
    target = load("torchvision/resnet18", save(module, tmp_path / "model.pth"), labels=LABELS)
    images, expected = run(module, 224)
    torch.testing.assert_close(target.forward(images).logits, expected)
    assert list(target.layers) == ["layer1", "layer2", "layer3", "layer4", "logits"]
    assert (target.preprocess.resize_size, target.preprocess.interpolation) == (256, "bilinear")


FAMILIES = {
    "timm/vit_tiny_patch16_224": (14, LayerKind.TOKENS, "norm", True),
    "timm/convnext_atto": (5, LayerKind.CHANNELS, "stages.3", False),
    "timm/swin_tiny_patch4_window7_224": (6, LayerKind.CHANNELS, "norm", False),
    "timm/efficientnet_b0": (None, LayerKind.CHANNELS, "global_pool", False),
    "timm/mobilenetv3_small_050": (None, LayerKind.CHANNELS, "act2", False),
    "timm/densenet121": (None, LayerKind.CHANNELS, None, False),
    "timm/mixer_s32_224": (None, LayerKind.TOKENS, "norm", False),
    "timm/cait_xxs24_224": (25, LayerKind.TOKENS, "blocks.23", False),
    "timm/xcit_nano_12_p16_224": (13, LayerKind.TOKENS, "blocks.11", False),
    "timm/crossvit_tiny_240": (4, LayerKind.TOKENS, "blocks.2", True),
    "torchvision/maxvit_t": (6, LayerKind.CHANNELS, "classifier.4", False),
    "torchvision/mnasnet0_5": (None, LayerKind.CHANNELS, "layers.16", False),
    "torchvision/vit_b_16": (14, LayerKind.TOKENS, "encoder.ln", True),
    "torchvision/swin_t": (None, LayerKind.CHANNELS, "norm", False),
    "torchvision/convnext_tiny": (None, LayerKind.CHANNELS, "features.7", False),
    "torchvision/mobilenet_v3_small": (None, LayerKind.CHANNELS, "features.12", False),
    "torchvision/squeezenet1_1": (None, LayerKind.CHANNELS, "features.12", False),
    "torchvision/alexnet": (4, LayerKind.CHANNELS, "features.11", False),
    "torchvision/googlenet": (None, LayerKind.CHANNELS, "inception5b", False),
    "torchvision/regnet_y_400mf": (None, LayerKind.CHANNELS, "trunk_output.block4", False),
}


@pytest.mark.parametrize("source", FAMILIES)
def test_every_family_gets_layers_that_can_be_captured_steered_and_attributed(source: str) -> None:
    from miclip.steering.edits import Edit, Op, compile_edits

    count, kind, last, class_token = FAMILIES[source]
    family = build_family(source, len(LABELS))
    for parameter in family.module.parameters():  # heads that start at zero would hide every edit
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    target = TargetModel(
        "mine", family.module, labels=LABELS, modules=family.layers, preprocessing=family.preprocessing,
        layout=family.layout,
    )  # fmt: skip
    inner = [layer for layer in target.layers.values() if layer.kind is not LayerKind.LOGITS]
    assert count is None or len(target.layers) == count
    assert len(inner) >= 3
    assert {layer.kind for layer in inner} <= {kind, LayerKind.CHANNELS}
    assert last is None or inner[-1].name == last
    assert family.layout.class_token == class_token
    images = torch.randn(1, 3, target.input_size, target.input_size)
    logits, activations, attributions = target.attribute(images, list(target.layers))
    assert torch.isfinite(logits).all()
    for layer in inner:
        assert activations[layer.name].shape == attributions[layer.name].shape == (1, layer.units)
        steered = target.forward(images, (), compile_edits([[Edit(layer.name, 0, Op.ADD, 30.0)]], target.layer_sizes))
        assert not torch.equal(steered.logits, logits), layer.name


def test_without_labels_a_thousand_outputs_are_imagenets(tmp_path: Path) -> None:
    import timm

    weights = save(timm.create_model("resnet10t"), tmp_path / "model.safetensors")
    target = load("timm/resnet10t", weights)
    assert target.labels == imagenet_labels()
    assert target.labels[0] == "tench"


def test_other_layers_can_be_asked_for(tmp_path: Path) -> None:
    weights = save(timm_resnet(), tmp_path / "model.safetensors")
    target = load("timm/resnet18", weights, labels=LABELS, layers=["layer3.0.conv1", "global_pool"])
    assert target.layer_sizes == {"layer3.0.conv1": 256, "global_pool": 512, "logits": 7}


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[str, str]:
    """An OpenCLIP model of our own, registered as users register theirs: name and weights file."""
    import open_clip

    (tmp_path / "tiny-test.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    return "tiny-test", save(open_clip.create_model("tiny-test"), tmp_path / "tiny.safetensors")


def test_an_open_clip_tower_is_a_zero_shot_classifier(tiny: tuple[str, str]) -> None:
    name, weights = tiny
    target = load(f"open_clip/{name}", weights, labels=["dog", "cat", "house"])
    assert target.layer_sizes == {
        "visual.transformer.resblocks.0": 32, "visual.transformer.resblocks.1": 32, "visual.ln_post": 32, "logits": 3,
    }  # fmt: skip
    clip = load_open_clip(name, weights)
    images = [torch.randint(0, 256, (3, 50, 40), dtype=torch.uint8) for _ in range(3)]
    output = target.forward(torch.stack([target.preprocess(image) for image in images]), ["visual.ln_post"])
    import open_clip

    prompts = [[t(label) for t in open_clip.SIMPLE_IMAGENET_TEMPLATES] for label in ("dog", "cat", "house")]
    means = np.stack([clip.embed_texts(texts).mean(axis=0) for texts in prompts])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scale = clip.model.logit_scale.exp().item()
    expected = torch.from_numpy(scale * clip.embed_images(images) @ means.T)
    torch.testing.assert_close(output.logits, expected, rtol=1e-3, atol=1e-3)


def test_an_open_clip_tower_without_labels_gives_the_image_embedding(tiny: tuple[str, str]) -> None:
    name, weights = tiny
    target = load(f"open_clip/{name}", weights)
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    embedding = torch.from_numpy(load_open_clip(name, weights).embed_images([image]))
    torch.testing.assert_close(target.forward(target.preprocess(image)[None]).logits, embedding, rtol=1e-4, atol=1e-5)


def test_a_zero_shot_target_comes_back_from_its_files_without_the_text_tower(
    tiny: tuple[str, str], tmp_path: Path
) -> None:
    name, weights = tiny
    spec, module = load_foreign(f"open_clip/{name}", weights, Given(labels=["dog", "cat"]))
    spec = write_model(tmp_path / "models", "mine", spec, module.state_dict())
    stored = read_state(tmp_path / "models", "mine", spec)
    assert not any("text" in key or "token_embedding" in key for key in stored)
    images, expected = run(module.eval(), 32)
    torch.testing.assert_close(build_target("mine", spec, stored).forward(images).logits, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer2.0.conv1.weight"), r"missing: layer2\.0\.conv1\.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected: extra"),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(1, 2)}),
            r"conv1\.weight is \[1, 2\], not \[64, 3, 7, 7\]",
        ),
        (lambda state: state.clear(), r"missing: .*and \d+ more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    state = dict(timm_resnet().state_dict())
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInput, match=message) as caught:
        load("timm/resnet18", str(tmp_path / "model.safetensors"), labels=LABELS)
    assert caught.value.field == "weights"
    assert str(tmp_path) not in str(caught.value)


def test_labels_of_another_number_are_refused_with_the_right_number(tmp_path: Path) -> None:
    weights = save(timm_resnet(), tmp_path / "model.safetensors")
    for labels in (LABELS[:3], []):
        with pytest.raises(InvalidInput, match="7 outputs") as caught:
            load("timm/resnet18", weights, labels=labels)
        assert caught.value.field == "labels"


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("miclip-was-here",)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Malicious()}, tmp_path / "model.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious()))
    for file in ("model.pth", "plain.pth"):
        with pytest.raises(InvalidInput) as caught:
            import_weights(tmp_path / file)
        assert caught.value.field == "weights"
    assert not (tmp_path / "miclip-was-here").exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(InvalidInput, match="pickled code"):
        import_weights(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.bin"])
@pytest.mark.parametrize("content", [b"", b"\x80\x02nonsense", bytes(1000), None])
def test_files_that_are_no_weights_are_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        import_weights(tmp_path / name)
    assert caught.value.field == "weights"


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(1)], {"state_dict": {"a": "text"}}])
def test_checkpoints_without_a_state_dict_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(InvalidInput, match="no state dict"):
        import_weights(tmp_path / "model.pth")


def test_published_weights_of_open_clip_are_named_and_no_network_is_said() -> None:
    with pytest.raises(InvalidInput, match="name which") as caught:
        load_foreign("open_clip/RN50", "hub")
    assert "hub:openai" in caught.value.allowed
    with pytest.raises(InvalidInput, match="cannot be fetched; give a local file"):
        load_foreign("open_clip/RN50", "hub:openai")


@pytest.mark.parametrize(
    "source",
    ["", "resnet18", "timm/", "timm/no_such_model", "torchvision/no_such_model", "open_clip/none", "keras/resnet50",
     "os:system", "../../etc/passwd"],
)  # fmt: skip
def test_unknown_sources_are_refused(source: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_foreign(source, "hub", Given(labels=LABELS))
    assert caught.value.field in {"model", "weights"}


def test_labels_are_read_from_text_and_json(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("dog\n\n big cat \n")
    (tmp_path / "a.json").write_text('["dog", "big cat"]')
    assert read_labels(tmp_path / "a.txt") == read_labels(tmp_path / "a.json") == ("dog", "big cat")
    for name, text in (("b.txt", " \n"), ("b.json", "{}"), ("c.json", "["), ("d.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidInput, match=name):
            read_labels(tmp_path / name)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, TargetSpec]:
    module = timm_resnet()
    spec, module = load_foreign("timm/resnet18", save(module, tmp_path / "w.safetensors"), Given(labels=LABELS))
    return tmp_path, write_model(tmp_path, "mine", spec, module.state_dict(), half=True)


def test_half_precision_files_give_nearly_the_same_model(stored: tuple[Path, TargetSpec]) -> None:
    folder, spec = stored
    assert (folder / "mine.safetensors").stat().st_size < 0.51 * (folder / "w.safetensors").stat().st_size
    assert read_spec(folder, "mine", TargetSpec) == spec
    target = build_target("mine", spec, read_state(folder, "mine", spec))
    original, expected = load("timm/resnet18", str(folder / "w.safetensors"), labels=LABELS), None
    images, expected = run(original.module, 224)
    torch.testing.assert_close(target.forward(images).logits, expected, rtol=0.02, atol=0.02)


def test_swapped_truncated_and_missing_weights_are_refused(stored: tuple[Path, TargetSpec]) -> None:
    folder, spec = stored
    file = folder / "mine.safetensors"
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", None):
        file.unlink() if broken is None else file.write_bytes(broken)
        with pytest.raises(BadArtefact, match="'mine'"):
            read_state(folder, "mine", spec)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[]"])
def test_a_broken_or_newer_description_is_refused(stored: tuple[Path, TargetSpec], text: str) -> None:
    folder, _ = stored
    (folder / "mine.json").write_text(text)
    with pytest.raises(BadArtefact, match="newer"):
        read_spec(folder, "mine", TargetSpec)
