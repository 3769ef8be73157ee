"""Who answers the commands: the client of a server, or the library in this process, with the same methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from miclip.names import UnitName, parse_layer

if TYPE_CHECKING:  # gRPC, NumPy and what is made of them are imported when they are needed, so that --help is quick
    from miclip.client.plan import Image
    from miclip.models.predictions import PredictResult
    from miclip.retrieval.results import DescribeResult, LocalizeResult, TraceResult
    from miclip.steering.edits import Edit
    from miclip.v1.activation_pb2 import Model


class Backend(Protocol):
    """The part of ``miclip.client.MiclipClient`` that the library alone can answer, too."""

    def get_model(self, model: str) -> Model:
        """Return a model's layers; raises NotFound."""

    def describe(
        self,
        units: Sequence[str | UnitName] = ...,
        *,
        vocabulary: str = ...,
        concepts: Sequence[str] = ...,
        top_k: int | None = ...,
        embedding: str | None = ...,
    ) -> DescribeResult:
        """Return the concepts of units of one model, in order."""

    def localize(
        self,
        texts: Sequence[str] | str = ...,
        *,
        model: str,
        images: Iterable[Image] = ...,
        layers: Sequence[str] = ...,
        top_k: int | None = ...,
        method: str | None = ...,
    ) -> LocalizeResult:
        """Return the units of each text, in order, then those of each image."""

    def predict(
        self,
        images: Iterable[Image],
        *,
        model: str,
        policy: str = ...,
        edits: Sequence[Edit] | None = ...,
        include_baseline: bool = ...,
        top_k: int | None = ...,
    ) -> PredictResult:
        """Classify images, steered or not."""

    def trace(
        self, images: Iterable[Image], *, model: str, concepts: Sequence[str] | str, top_k: int | None = ...
    ) -> TraceResult:
        """Compare images with concepts at every aligned layer."""


def layer_sizes(model: Model) -> dict[str, int]:
    """Return the units of each layer, by the layer's name without the model."""
    return {parse_layer(layer.name).layer: layer.units for layer in model.layers}


def neuron_layers(model: Model) -> list[str]:
    """Return the aligned layers of neurons before the logits."""
    from miclip.v1.resources_pb2 import LAYER_KIND_FEATURES, LAYER_KIND_LOGITS

    others = (LAYER_KIND_FEATURES, LAYER_KIND_LOGITS)
    return [parse_layer(one.name).layer for one in model.layers if one.aligned and one.kind not in others]


def default_layer(model: Model) -> str:
    """Return the layer that says most about concepts: the last aligned one before the logits.

    The logits themselves where nothing else is aligned; never a dictionary.
    """
    inner = neuron_layers(model)
    return inner[-1] if inner else "logits"
