"""Classifiers of transformers: as the library itself answers, from a folder, without network and without their code."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput
from miclip.models import _torchvision, huggingface  # noqa: F401  (before transformers)
from miclip.models.discovery import Survey
from miclip.models.files import TargetSpec, read_spec, read_state, write_model
from miclip.models.huggingface import as_preprocessing, build
from miclip.models.labels import imagenet_labels
from miclip.models.loaders import as_target, build_target, load_foreign
from miclip.models.preprocessing import Preprocessing
from miclip.models.sources import Given, default_id, is_source, needs_weights
from miclip.models.target import LayerKind, TargetModel

LABELS = ("dog", "cat", "apple", "car", "tree")
TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 64,
        "patch_size": 16}  # fmt: skip


def save_vit(folder: Path, labels: tuple[str, ...] = LABELS) -> nn.Module:
    """A tiny ViT of random weights, saved as people save theirs."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    names = dict(enumerate(labels))
    config = ViTConfig(**TINY, id2label=names, label2id={label: place for place, label in names.items()})
    module = ViTForImageClassification(config).eval()
    module.save_pretrained(folder)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return module


@pytest.fixture
def vit(tmp_path: Path) -> tuple[Path, nn.Module]:
    return tmp_path / "my-vit", save_vit(tmp_path / "my-vit")


def load(source: Path | str, weights: str = "", **given: Any) -> TargetModel:
    return as_target("mine", *load_foreign(str(source), weights, Given(**given)))


def images(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_a_folder_answers_as_transformers_does(vit: tuple[Path, nn.Module]) -> None:
    folder, module = vit
    target = load(folder)
    with torch.inference_mode():
        expected = module(images()).logits
    torch.testing.assert_close(target.forward(images()).logits, expected.clone())
    assert target.labels == LABELS
    assert target.layer_sizes == {
        "vit.layers.0": 32, "vit.layers.1": 32, "vit.layers.2": 32, "vit.layernorm": 32, "logits": 5,
    }  # fmt: skip
    assert {layer.kind for layer in target.layers.values()} == {LayerKind.TOKENS, LayerKind.LOGITS}
    assert (target.layout.class_token, target.layout.prefix_tokens) == (True, 1)


def test_a_torch_checkpoint_is_read_and_one_with_code_is_not(vit: tuple[Path, nn.Module]) -> None:
    folder, module = vit
    expected = load(folder).weights_sha256
    (folder / "model.safetensors").unlink()
    torch.save(module.state_dict(), folder / "pytorch_model.bin")
    assert load(folder).weights_sha256 == expected
    torch.save({"vit.layernorm.weight": nn.Linear(2, 2)}, folder / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match="weights of the folder 'my-vit' cannot be used"):
        load(folder)


def test_it_comes_back_from_its_files_without_network_and_without_the_folder(
    vit: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, module = load_foreign(str(vit[0]), "")
    spec = write_model(tmp_path / "models", "mine", spec, module.state_dict())
    with torch.inference_mode():
        expected = module.eval()(images()).logits.clone()
    shutil.rmtree(vit[0])
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    spec = read_spec(tmp_path / "models", "mine", TargetSpec)
    target = build_target("mine", spec, read_state(tmp_path / "models", "mine", spec))
    torch.testing.assert_close(target.forward(images()).logits, expected)


def test_code_that_comes_with_a_folder_is_not_run(vit: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = vit
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'was-here')!r}, 'w')\nclass Model: pass\nclass Config: pass")
    config = json.loads((folder / "config.json").read_text())
    remote = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": remote}))
    spec, _ = load_foreign(str(folder), "")
    assert "auto_map" not in spec.parameters
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": remote, "model_type": "evil"}))
    with pytest.raises(InvalidInput):
        load_foreign(str(folder), "")
    assert not (tmp_path / "was-here").exists()


def test_labels_of_the_user_take_the_place_of_its_own(vit: tuple[Path, nn.Module]) -> None:
    assert load(vit[0], labels=list("abcde")).labels == tuple("abcde")
    with pytest.raises(InvalidInput, match="5 outputs") as caught:
        load(vit[0], labels=list("abc"))
    assert caught.value.field == "labels"


def test_outputs_without_names_are_imagenets_or_asked_for(tmp_path: Path) -> None:
    save_vit(tmp_path / "some", tuple(f"LABEL_{place}" for place in range(5)))
    with pytest.raises(InvalidInput, match="5 outputs and does not name them"):
        load(tmp_path / "some")
    save_vit(tmp_path / "thousand", tuple(f"LABEL_{place}" for place in range(1000)))
    assert load(tmp_path / "thousand").labels == imagenet_labels()


def test_a_backbone_without_a_classifier_is_refused(vit: tuple[Path, nn.Module]) -> None:
    from safetensors.torch import load_file, save_file

    file = vit[0] / "model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if "classifier" not in key}, file,
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(InvalidInput, match=r"lacks classifier\.\w+"):
        load(vit[0])


def test_what_is_missing_or_unsuitable_is_said(vit: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = vit
    config = json.loads((folder / "config.json").read_text())

    def refused(message: str, **changes: Any) -> None:
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(InvalidInput, match=message):
            load(folder)
        (folder / "config.json").write_text(json.dumps(config))

    refused("1 channel", num_channels=1)
    refused("32×64; only square", image_size=[32, 64])
    refused("no image classifier", model_type="bert", architectures=["BertModel"])
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InvalidInput, match=r"preprocessor_config\.json"):
        load(folder)
    with pytest.raises(InvalidInput, match="names an architecture"):
        needs_weights(f"{tmp_path}/")


def test_sources_and_their_ids(vit: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(vit[0].parent)
    for source in ("my-vit", "./my-vit/", "transformers/my-vit", str(vit[0])):
        assert is_source(source)
        assert not needs_weights(source)
        assert default_id(source) == "my-vit"
    assert default_id("transformers/google/vit-base") == "google-vit-base"
    assert not is_source("emoji-vit")


# what is small of a family; the defaults of the others are small enough
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": TINY,
    "deit": TINY,
    "dinov2_with_registers": {key: TINY[key] for key in TINY if key != "intermediate_size"}
    | {"num_register_tokens": 4},
    "beit": TINY | {"out_indices": [1, 2, 3]},
    "swin": {"embed_dim": 16, "depths": [1, 1, 2], "num_heads": [1, 2, 4], "image_size": 64, "window_size": 4},
    "convnextv2": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "image_size": 64},
    "resnet": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "embedding_size": 8, "layer_type": "basic"},
    "mobilenet_v2": {"depth_multiplier": 0.35, "image_size": 64},
    "mobilevit": {},
    "pvt_v2": {"image_size": 64},
    "poolformer": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
}
LAYOUTS = {  # class token, prefix
    "vit": (True, 1), "deit": (True, 2), "dinov2_with_registers": (True, 5), "beit": (False, 1),
}  # fmt: skip


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_family_gets_layers_that_are_attributed(model_type: str) -> None:
    module = build(model_type, 5, CONFIGS[model_type])
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():  # heads that start at zero would hide everything
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    survey = Survey(module, 64)
    layers = survey.layers()
    layout = survey.layout(layers)
    target = TargetModel(
        "mine", module, labels=LABELS, modules=layers, preprocessing=Preprocessing(64), layout=layout,
    )  # fmt: skip
    assert len(layers) >= 3
    assert (layout.class_token, layout.prefix_tokens) == LAYOUTS.get(model_type, (False, 0))
    assert not layout.channels_last
    _, activations, attributions = target.attribute(images(), list(layers))
    for layer in layers:
        assert activations[layer].shape == attributions[layer].shape == (2, target.layer_sizes[layer])
    assert attributions[layers[-1]].abs().max() > 0


PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {},
    "BeitImageProcessor": {"size": {"height": 256, "width": 256}, "do_center_crop": True},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 224}},
    "LevitImageProcessor": {},
    "PoolFormerImageProcessor": {},
    "MobileNetV2ImageProcessor": {},
    "MobileViTImageProcessor": {},
    "CLIPImageProcessor": {},
    "EfficientNetImageProcessor": {
        "resample": 0, "rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_become_what_the_library_makes_of_them(name: str) -> None:
    import transformers

    processor = getattr(transformers, name)(**PROCESSORS[name])
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 15, generator=generator)
    image = (255 * nn.functional.interpolate(coarse, (300, 400), mode="bilinear")[0]).to(torch.uint8)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    got = as_preprocessing(processor.to_dict(), {})(image)
    assert got.shape == expected.shape
    assert (got - expected).abs().mean() < 0.01 * expected.std()


def test_inputs_that_are_not_square_are_refused() -> None:
    with pytest.raises(InvalidInput, match="32×64; only square"):
        as_preprocessing({"size": {"height": 32, "width": 64}}, {})
    with pytest.raises(InvalidInput, match="1 channel"):
        as_preprocessing({"size": 64, "do_normalize": True, "image_mean": [0.5], "image_std": [0.5]}, {})
