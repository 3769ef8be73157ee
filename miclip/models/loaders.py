"""Target models by name, with weights from a local file or the hub."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput
from miclip.models.clip import create_open_clip, open_clip_preprocessing
from miclip.models.families import ZeroShot, build_family, build_module
from miclip.models.files import TargetSpec
from miclip.models.target import TargetModel
from miclip.models.weights import import_weights, load_exactly

HUB = "hub"
"""In place of a weights file: what the library publishes for the model."""


def load_foreign(
    source: str,
    weights: str,
    *,
    labels: Sequence[str] = (),
    layers: Sequence[str] = (),
) -> tuple[TargetSpec, nn.Module]:
    """Load a timm, torchvision or OpenCLIP model, for building and importing.

    Args:
        source: ``timm/NAME``, ``torchvision/NAME`` or ``open_clip/NAME``. An OpenCLIP image tower becomes a zero-shot
            classifier over ``labels``; without labels its outputs are the image embedding.
        weights: Path of a local file (safetensors, or a torch checkpoint of tensors), or ``"hub"`` (for OpenCLIP
            ``"hub:TAG"``) for the published ones.
        labels: Names of the outputs; may be left out when there are 1000, which then are ImageNet-1k's.
        layers: Module paths; the family's defaults when left out.

    Returns:
        How to build it again, and the module with its weights.

    Raises:
        InvalidInput: unknown name, unreadable weights, or weights that do not fit.
    """
    if source.startswith("open_clip/"):
        return _load_zero_shot(source, weights, labels, layers)
    names = tuple(labels) or imagenet_labels()
    family = build_family(source, len(names))
    state = _published(source) if weights == HUB else import_weights(Path(weights))
    _check_outputs(family.module, state, len(names))
    load_exactly(family.module, state, source)
    spec = TargetSpec(
        architecture=source,
        labels=names,
        layers=tuple(layers) or family.layers,
        preprocessing=family.preprocessing,
        layout=family.layout,
    )
    return spec, family.module


def build_target(
    name: str, spec: TargetSpec, state: dict[str, Tensor], device: torch.device | str = "cpu"
) -> TargetModel:
    """Build a target model from its description and tensors; raises InvalidInput when they do not fit."""
    module = build_module(spec.architecture, len(spec.labels), spec.parameters)
    load_exactly(module, state, spec.architecture)
    return as_target(name, spec, module, device)


def as_target(name: str, spec: TargetSpec, module: nn.Module, device: torch.device | str = "cpu") -> TargetModel:
    """Wrap a module that already has its weights."""
    return TargetModel(
        name,
        module,
        labels=spec.labels,
        modules=spec.layers,
        preprocessing=spec.preprocessing,
        layout=spec.layout,
        device=device,
    )


def imagenet_labels() -> tuple[str, ...]:
    """Return OpenCLIP's names of the 1000 ImageNet-1k classes."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels: a JSON list, or one per line; raises InvalidInput."""
    try:
        text = path.read_text(encoding="utf-8")
        found = (
            json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError) as error:
        raise InvalidInput(f"labels: {path.name!r} cannot be read as text or JSON.", field="labels") from error
    if not isinstance(found, list) or not found or not all(isinstance(label, str) and label for label in found):
        allowed = "a JSON list of texts, or one label a line"
        raise InvalidInput(f"labels: {path.name!r} holds no labels.", field="labels", allowed=allowed)
    return tuple(found)


def _published(source: str) -> dict[str, Tensor]:
    library, _, name = source.partition("/")
    try:
        with redirect_stdout(sys.stderr):  # torch says there what it downloads; commands answer on standard output
            return _fetched(library, name)
    except (OSError, RuntimeError, ValueError) as error:
        text = f"weights: the published weights of {source} cannot be fetched; give a local file."
        raise InvalidInput(text, field="weights", allowed="a local file") from error


def _fetched(library: str, name: str) -> dict[str, Tensor]:
    if library == "timm":
        import timm

        return cast("dict[str, Tensor]", timm.create_model(name, pretrained=True).state_dict())
    from torchvision import models

    return cast("dict[str, Tensor]", models.get_model_weights(name).DEFAULT.get_state_dict(check_hash=True))


def _check_outputs(module: nn.Module, state: dict[str, Tensor], outputs: int) -> None:
    """Say that labels are wrong, rather than that a shape is, when the weights have another number of outputs."""
    own = module.state_dict()
    heads = [key for key in own if key.endswith(".weight") and own[key].ndim > 1 and own[key].shape[0] == outputs]
    if not heads or heads[-1] not in state:
        return
    there = state[heads[-1]].shape[0]
    if there != outputs:
        text = f"labels: the weights have {there} outputs, but there are {outputs} labels."
        raise InvalidInput(text, field="labels", allowed=f"{there} labels")


def _load_zero_shot(
    source: str, weights: str, labels: Sequence[str], layers: Sequence[str]
) -> tuple[TargetSpec, nn.Module]:
    import open_clip

    name = source.removeprefix("open_clip/")
    model = create_open_clip(name, weights)
    dim = int(open_clip.get_model_config(name)["embed_dim"])
    names = tuple(labels) or tuple(f"dimension {index}" for index in range(dim))
    family = build_family(source, len(names))
    zero_shot = cast("ZeroShot", family.module)
    zero_shot.visual.load_state_dict(cast("nn.Module", model.visual).state_dict())
    if labels:
        zero_shot.labels, scale = _label_embeddings(name, model, names)
        zero_shot.scale = scale.reshape(())
    else:
        zero_shot.labels = torch.eye(dim)
    spec = TargetSpec(
        architecture=source,
        labels=names,
        layers=tuple(layers) or family.layers,
        preprocessing=open_clip_preprocessing(open_clip.get_model_preprocess_cfg(model)),
        layout=family.layout,
    )
    return spec, zero_shot


def _label_embeddings(name: str, model: nn.Module, labels: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return ``[K, D]`` embeddings, each the mean over OpenCLIP's seven simple templates, and the logit scale."""
    import open_clip

    with torch.inference_mode():
        columns = open_clip.build_zero_shot_classifier(
            model,
            open_clip.get_tokenizer(name),
            list(labels),
            open_clip.SIMPLE_IMAGENET_TEMPLATES,
            num_classes_per_batch=16,
        )
        scale = cast("Tensor", model.logit_scale).exp()
    return columns.T.clone(), scale.clone()
