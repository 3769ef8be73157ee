"""Model cards: what can be said of a model without loading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from miclip.models.layers import LayerKind
from miclip.models.sae import SparseAutoencoder
from miclip.models.target import TargetModel


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DictionaryCard(_Frozen):
    """The dictionary whose features are a layer's units.

    Attributes:
        sha256: Hash of its configuration and weights.
        activation: What makes its codes sparse.
        k: Codes of a position that may be positive; 0 where it is not top-k.
        quality: What was measured when it was trained; empty for one that came from elsewhere.
    """

    sha256: str
    activation: str
    k: int
    quality: dict[str, float] = {}


class LayerCard(_Frozen):
    """A layer: its name, what its output is made of, its number of units, and of features their dictionary."""

    name: str
    kind: LayerKind
    units: int
    dictionary: DictionaryCard | None = None


class ModelCard(_Frozen):
    """What a model is, as its files were when the card was made.

    Attributes:
        model: Id of the catalogue.
        source_sha256: Hash of what the catalogue says of the model's files; another one makes the card stale.
        weights_sha256: See ``TargetModel.weights_sha256``.
        input_size: Edge of the square input in pixels.
        labels: Names of its outputs.
        layers: Its layers, from the input to the logits.
        bytes: What its tensors and those of its dictionaries take on the device.
    """

    format: Literal[1] = 1
    model: str
    source_sha256: str
    weights_sha256: str
    input_size: int
    labels: tuple[str, ...]
    layers: tuple[LayerCard, ...]
    bytes: int


def make_card(target: TargetModel, source_sha256: str) -> ModelCard:
    """Describe a loaded model; hashes its weights where that was not done before."""
    saes = target.dictionaries
    return ModelCard(
        model=target.name,
        source_sha256=source_sha256,
        weights_sha256=target.weights_sha256,
        input_size=target.input_size,
        labels=target.labels,
        layers=tuple(
            LayerCard(name=layer.name, kind=layer.kind, units=layer.units, dictionary=_dictionary(saes.get(layer.name)))
            for layer in target.layers.values()
        ),
        bytes=tensor_bytes(target.module) + sum(tensor_bytes(sae) for sae in saes.values()),
    )


def tensor_bytes(module: nn.Module) -> int:
    """Return what the parameters and buffers of a module take."""
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def read_card(path: Path, source_sha256: str) -> ModelCard | None:
    """Return the card in a file; None where there is none, or it is broken or stale."""
    try:
        card = ModelCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return card if card.source_sha256 == source_sha256 else None


def write_card(path: Path, card: ModelCard) -> None:
    """Write a card to a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _dictionary(sae: SparseAutoencoder | None) -> DictionaryCard | None:
    if sae is None:
        return None
    config = sae.config
    return DictionaryCard(sha256=sae.sha256, activation=str(config.activation), k=config.k, quality=dict(sae.quality))
