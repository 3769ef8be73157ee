"""Target models by name, with weights from a local file or the hub."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput
from miclip.models import huggingface
from miclip.models.clip import create_open_clip, open_clip_preprocessing
from miclip.models.discovery import run_trial
from miclip.models.factory import is_factory
from miclip.models.families import ZeroShot, build_family, build_module
from miclip.models.files import TargetSpec
from miclip.models.sources import NOTHING, Given, build_foreign, checkpoint_name, make_spec
from miclip.models.target import TargetModel
from miclip.models.weights import import_weights, load_exactly

HUB = "hub"
"""In place of a weights file: what the library publishes for the model."""


def load_foreign(source: str, weights: str, given: Given = NOTHING) -> tuple[TargetSpec, nn.Module]:
    """Load a model of a library or of the user's, for building and importing.

    Args:
        source: ``timm/NAME``, ``torchvision/NAME``, ``open_clip/NAME``, ``transformers/FOLDER_OR_NAME``, the folder of
            a transformers model, or ``file.py:factory``, whose code is run. An OpenCLIP image tower becomes a
            zero-shot classifier over the labels; without labels its outputs are the image embedding.
        weights: Path of a local file (safetensors, or a torch checkpoint of tensors), or ``"hub"`` (for OpenCLIP
            ``"hub:TAG"``) for the published ones. Empty means those of the folder, or those that the factory gives.
        given: Labels, layers and preprocessing other than the model's own.

    Returns:
        How to build it again, and the module with its weights.

    Raises:
        InvalidInput: unknown name, unreadable weights, or weights that do not fit.
    """
    if source.startswith("open_clip/"):
        spec, module = _load_zero_shot(source, weights, given)
    else:
        spec, module = build_foreign(source, given)
        if not spec.labels:
            raise _unlabelled(source, run_trial(module, spec.preprocessing.size).shape[1])
        state = _weights_of(source, weights)
        if state is not None:
            _check_outputs(module, state, len(spec.labels))
            load_exactly(module, state, source)
    if given.size:
        run_trial(module, given.size)
    return spec, module


def _weights_of(source: str, weights: str) -> dict[str, Tensor] | None:
    """Return the weights of a source; None where the module has them already."""
    if weights and weights != HUB:
        return import_weights(Path(weights))
    if is_factory(source):
        return None
    name = checkpoint_name(source)
    return huggingface.read_state(name) if name else _published(source)


def _unlabelled(source: str, outputs: int) -> InvalidInput:
    text = (f"labels: {source} has {outputs} outputs and does not name them. Give their names, one a line: --labels "
            "FILE.")  # fmt: skip
    return InvalidInput(text, field="labels", allowed=f"{outputs} labels")


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


def _load_zero_shot(source: str, weights: str, given: Given) -> tuple[TargetSpec, nn.Module]:
    import open_clip

    name = source.removeprefix("open_clip/")
    model = create_open_clip(name, weights)
    dim = int(open_clip.get_model_config(name)["embed_dim"])
    names = tuple(given.labels) or tuple(f"dimension {index}" for index in range(dim))
    family = build_family(source, len(names))
    zero_shot = cast("ZeroShot", family.module)
    zero_shot.visual.load_state_dict(cast("nn.Module", model.visual).state_dict())
    if given.labels:
        zero_shot.labels, scale = _label_embeddings(name, model, names)
        zero_shot.scale = scale.reshape(())
    else:
        zero_shot.labels = torch.eye(dim)
    preprocessing = open_clip_preprocessing(open_clip.get_model_preprocess_cfg(model))
    spec = make_spec(source, source, {}, names, family.layers, family.layout, preprocessing, given)
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
