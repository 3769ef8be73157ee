"""Models on disk: ``{id}.json`` says how to build one, ``{id}.safetensors`` holds its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from miclip.errors import BadArtefact
from miclip.files import write_file
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import Layout
from miclip.models.weights import file_sha256, read_safetensors, write_safetensors


class TargetSpec(BaseModel):
    """How to build a target model.

    Attributes:
        architecture: ``timm/NAME``, ``torchvision/NAME``, ``open_clip/NAME``, ``miclip/NAME`` of
            ``miclip.models.small``, ``transformers/TYPE``, or ``factory/NAME`` of a file of the user's.
        parameters: What the builder of the architecture takes; see ``miclip.models.families.build_module``.
        source: What the user named when it was imported; empty for one that was built here.
        licence: Licence that came with the model; empty where none did.
        labels: Names of the outputs.
        layers: Module paths of its layers, without the logits.
        preprocessing: From images to inputs.
        layout: How the family lays out its activations.
        weights_file_sha256: SHA-256 (hex) of the weights file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    architecture: str
    parameters: dict[str, Any] = {}
    labels: tuple[str, ...]
    layers: tuple[str, ...]
    preprocessing: Preprocessing
    layout: Layout = Layout()
    source: str = ""
    licence: str = ""
    weights_file_sha256: str = ""


class ClipSpec(BaseModel):
    """How to build an OpenCLIP model whose text tower lies in a package.

    Attributes:
        config: OpenCLIP model configuration; see ``miclip.models.clip.build_clip``.
        preprocessing: From images to inputs.
        text_sha256: SHA-256 (hex) of the text tower's ``model.safetensors``.
        weights_file_sha256: SHA-256 (hex) of the weights file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    config: dict[str, Any]
    preprocessing: Preprocessing
    text_sha256: str
    weights_file_sha256: str = ""


Spec = TypeVar("Spec", TargetSpec, ClipSpec)


def write_model(folder: Path, name: str, spec: Spec, state: dict[str, Tensor], *, half: bool = False) -> Spec:
    """Write a model's two files; returns the spec with the weights' hash filled in.

    Args:
        folder: Created if missing.
        name: Id of the model.
        spec: How to build it.
        state: Its tensors; for CLIP those of ``visual.*`` and ``logit_scale``.
        half: Store float32 as float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = write_safetensors(folder / f"{name}.safetensors", state, half=half)
    spec = spec.model_copy(update={"weights_file_sha256": digest})
    write_file(folder / f"{name}.json", spec.model_dump_json(indent=1) + "\n")
    return spec


def read_spec(folder: Path, name: str, kind: type[Spec]) -> Spec:
    """Read ``{name}.json``; raises BadArtefact."""
    try:
        return kind.model_validate_json((folder / f"{name}.json").read_bytes())
    except (OSError, ValidationError) as error:
        text = f"The description of model {name!r} is missing, broken, or newer than this program."
        raise BadArtefact(text) from error


def read_state(folder: Path, name: str, spec: TargetSpec | ClipSpec) -> dict[str, Tensor]:
    """Read ``{name}.safetensors`` after checking its hash; raises BadArtefact."""
    path = folder / f"{name}.safetensors"
    if not path.is_file() or file_sha256(path) != spec.weights_file_sha256:
        raise BadArtefact(f"The weights of model {name!r} are missing, truncated, or not those of its description.")
    return read_safetensors(path)


def clip_state(tower: nn.Module, logit_scale: float) -> dict[str, Tensor]:
    """Return the tensors that ``write_model`` stores for a CLIP: the image tower and the log of the logit scale."""
    visual = {f"visual.{name}": tensor for name, tensor in tower.state_dict().items()}
    return visual | {"logit_scale": torch.tensor(logit_scale)}
