"""What differs between model families: how one is built, its default layers, layout and preprocessing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from miclip.errors import InvalidInput
from miclip.models import (
    _torchvision,  # noqa: F401  (before timm, torchvision and open_clip)
    factory,
    huggingface,
)
from miclip.models.clip import open_clip_preprocessing
from miclip.models.discovery import Survey
from miclip.models.preprocessing import Preprocessing
from miclip.models.small import SMALL
from miclip.models.target import Layout

SOURCES = "timm/NAME, torchvision/NAME, open_clip/NAME, transformers/FOLDER_OR_NAME, a folder, or file.py:factory"
_NONE: Mapping[str, Any] = {}
_STEM = ("act", "bn", "conv", "stem")


@dataclass(frozen=True)
class Family:
    """What a freshly built model needs to become a target.

    Attributes:
        module: Maps ``[B,3,S,S]`` to ``[B,K]``; random weights.
        layers: Default layers in order of depth, the penultimate one last.
        preprocessing: As the model's authors evaluate it.
        layout: How it lays out its activations.
    """

    module: nn.Module
    layers: tuple[str, ...]
    preprocessing: Preprocessing
    layout: Layout


class ZeroShot(nn.Module):
    """An OpenCLIP image tower whose logits are its scaled cosines to label embeddings.

    Args:
        visual: Maps images to embeddings ``[B, D]``.
        outputs: Number of labels ``K``.
        dim: ``D``.
    """

    labels: Tensor
    scale: Tensor

    def __init__(self, visual: nn.Module, outputs: int, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("labels", torch.zeros(outputs, dim))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]``."""
        return self.scale * normalize(self.visual(images), dim=-1) @ self.labels.T


def build_module(architecture: str, outputs: int, parameters: Mapping[str, Any] = _NONE) -> nn.Module:
    """Build the bare module of any architecture that a spec may name, with random weights.

    Args:
        architecture: A source of ``build_family``, ``miclip/NAME`` of ``miclip.models.small``, ``transformers/TYPE`` or
            ``factory/NAME``.
        outputs: Number of its outputs ``K``.
        parameters: Of a ``miclip/NAME``: what its builder takes; of a ``transformers/TYPE``: its configuration; of a
            ``factory/NAME``: its file.

    Raises:
        InvalidInput: the architecture is unknown or does not take the parameters.
        BadArtefact: the file of a factory has changed.
    """
    library, _, name = architecture.partition("/")
    if library == "miclip":
        return _own(name, outputs, parameters)
    if library == huggingface.LIBRARY:
        return huggingface.build(name, outputs, parameters)
    if library == factory.LIBRARY:
        return factory.remake(name, parameters)
    return build_family(architecture, outputs).module


def build_family(source: str, outputs: int) -> Family:
    """Build a model by source.

    Args:
        source: ``timm/NAME``, ``torchvision/NAME`` or ``open_clip/NAME``.
        outputs: Number of its outputs ``K``.

    Raises:
        InvalidInput: the source or name is unknown, or the model's input is not square.
    """
    library, _, name = source.partition("/")
    if library not in BUILDERS or not name:
        raise InvalidInput(f"model: {source[:80]!r} is not {SOURCES}.", field="model", allowed=SOURCES)
    return BUILDERS[library](name, outputs)


def _own(name: str, outputs: int, parameters: Mapping[str, Any]) -> nn.Module:
    if name not in SMALL:
        allowed = ", ".join(f"miclip/{known}" for known in SMALL)
        raise InvalidInput(f"model: miclip has no architecture {name[:80]!r}.", field="model", allowed=allowed)
    try:
        return SMALL[name](outputs, **parameters)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"model: miclip/{name} does not take the card's parameters.", field="model") from error


def _timm(name: str, outputs: int) -> Family:
    import timm

    if not timm.is_model(name):
        raise InvalidInput(f"model: timm has no {name[:80]!r}.", field="model", allowed="a name of timm.list_models()")
    module = timm.create_model(name, pretrained=False, num_classes=outputs)
    return Family(module, timm_layers(module), _timm_preprocessing(module), timm_layout(module))


def timm_layers(module: nn.Module) -> tuple[str, ...]:
    """Return the stages or blocks that timm's feature info names, and what the classifier reads if it is more."""
    info: Any = getattr(module, "feature_info", None) or []
    known = dict(module.named_modules())
    found = [entry["module"] for entry in info if entry["module"] in known]
    stages = [path for path in found if not path.startswith(_STEM)] or found or _children(module)
    last_width = info[-1]["num_chs"] if info else None
    ends = [] if _joins_late(module) else ["norm", "fc_norm"]
    features = getattr(module, "num_features", last_width)
    if last_width != features:
        ends.append("global_pool")
    if features != getattr(module, "head_hidden_size", features):  # MobileNetV3 has a convolution behind the pooling
        ends.append("act2")
    unread = (nn.Identity, nn.ModuleList)
    extra = [end for end in ends if end in known and not isinstance(known[end], unread) and end not in stages]
    return (*stages, *extra)


def timm_layout(module: nn.Module) -> Layout:
    """Return the layout that a timm model's attributes tell."""
    if _joins_late(module):
        return Layout()
    class_token = getattr(module, "global_pool", "") == "token"
    return Layout(
        class_token=class_token,
        prefix_tokens=max(int(getattr(module, "num_prefix_tokens", 0)), int(class_token)),
        channels_last=getattr(module, "output_fmt", "NCHW") == "NHWC",
    )


def _joins_late(module: nn.Module) -> bool:
    """Whether the class token joins behind the blocks (CaiT, XCiT), whose tokens are then patches alone."""
    return hasattr(module, "blocks_token_only") or hasattr(module, "cls_attn_blocks")


def _timm_preprocessing(module: nn.Module) -> Preprocessing:
    from timm.data.config import resolve_data_config

    config = resolve_data_config({}, model=module)
    _, height, width = config["input_size"]
    _check_square(height, width)
    crop = {"squash": "squash", "border": "longest"}.get(config.get("crop_mode", "center"), "shortest")
    return Preprocessing(
        size=height,
        resize=crop,
        resize_size=math.floor(height / config["crop_pct"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        fill=round(255 * sum(config["mean"]) / 3),
    )


def _torchvision_family(name: str, outputs: int) -> Family:
    from torchvision import models

    if name not in models.list_models(module=models):
        allowed = "a name of torchvision.models.list_models(torchvision.models)"
        raise InvalidInput(f"model: torchvision has no {name[:80]!r}.", field="model", allowed=allowed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of how two models will start, whose weights are given
        module = models.get_model(name, weights=None, num_classes=outputs)
    preset = models.get_model_weights(name).DEFAULT.transforms()
    preprocessing = Preprocessing(
        size=preset.crop_size[0],
        resize_size=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    tokens = hasattr(module, "class_token")
    layout = Layout(class_token=tokens, prefix_tokens=int(tokens), channels_last=name.startswith("swin"))
    return Family(module, _torchvision_layers(module, preprocessing.size), preprocessing, layout)


def _torchvision_layers(module: nn.Module, size: int) -> tuple[str, ...]:
    known = dict(module.named_modules())
    if "encoder.layers" in known:
        return (*(f"encoder.layers.{child}" for child, _ in known["encoder.layers"].named_children()), "encoder.ln")
    for stem in ("features", "trunk_output"):
        if stem in known:
            return (*_blocks(stem, known[stem]), *(["norm"] if "norm" in known else []))
    stages = [path for path in known if path.startswith("layer") and path.removeprefix("layer").isdigit()]
    children = stages or _children(module)
    called = not any(isinstance(known[path], nn.ModuleList) for path in children)
    return tuple(children) if called and len(children) > 1 else Survey(module, size).layers()


def _blocks(path: str, sequence: nn.Module) -> list[str]:
    """Return the children that are made of modules; of a plain chain of layers, what each pooling reads."""
    children = list(sequence.named_children())
    blocks = [name for name, child in children if _any(child.children())]
    pooled = [before for (before, _), (_, child) in pairwise(children) if isinstance(child, nn.MaxPool2d)]
    return [f"{path}.{name}" for name in blocks or pooled]


def _open_clip(name: str, outputs: int) -> Family:
    import open_clip
    from open_clip.model import _build_vision_tower

    config = open_clip.get_model_config(name)
    if config is None:
        allowed = "a name of open_clip.list_models()"
        raise InvalidInput(f"model: OpenCLIP has no {name[:80]!r}.", field="model", allowed=allowed)
    vision = config["vision_cfg"] | (
        {"timm_model_pretrained": False} if "timm_model_name" in config["vision_cfg"] else {}
    )
    visual = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    preprocess = {**vars(open_clip.transform.PreprocessCfg()), "size": visual.image_size}
    layers, layout = _open_clip_layers(visual)
    module = ZeroShot(visual, outputs, config["embed_dim"])
    return Family(module, layers, open_clip_preprocessing(preprocess), layout)


def _open_clip_layers(visual: nn.Module) -> tuple[tuple[str, ...], Layout]:
    known = dict(visual.named_modules())
    if "trunk" in known:
        return tuple(f"visual.trunk.{path}" for path in timm_layers(known["trunk"])), timm_layout(known["trunk"])
    if "transformer.resblocks" in known:
        count = len(list(known["transformer.resblocks"].children()))
        blocks = tuple(f"visual.transformer.resblocks.{index}" for index in range(count))
        layout = Layout(class_token=getattr(visual, "pool_type", "tok") == "tok", prefix_tokens=1)
        return (*blocks, "visual.ln_post"), layout
    return tuple(f"visual.{path}" for path in ("layer1", "layer2", "layer3", "layer4") if path in known), Layout()


def _children(module: nn.Module) -> list[str]:
    """Return the direct children that hold parameters, but for the last, which is taken for the classifier.

    Auxiliary classifiers (of Inception v3 and GoogLeNet) answer in training alone.
    """
    children = [name for name, child in module.named_children() if _any(child.parameters())]
    return [name for name in children[:-1] if not name.lower().startswith("aux")]


def _any(items: Iterable[object]) -> bool:
    return next(iter(items), None) is not None


def _check_square(height: int, width: int) -> None:
    if height != width:
        raise InvalidInput(f"model: its input is {width}×{height}; only square inputs are supported.", field="model")


BUILDERS: Mapping[str, Callable[[str, int], Family]] = {
    "timm": _timm, "torchvision": _torchvision_family, "open_clip": _open_clip,
}  # fmt: skip
"""What builds the models of a library: from a name in it and a number of outputs."""
