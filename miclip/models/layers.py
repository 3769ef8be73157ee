"""The layers of a target model: what their outputs are made of, and what a forward pass gives of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from torch import Tensor

from miclip.errors import InvalidInput, NotFound
from miclip.models.sae import SparseAutoencoder
from miclip.names import base_layer

LOGITS = "logits"
"""Name of the last layer of every model."""


class LayerKind(StrEnum):
    """What a layer's output is made of."""

    CHANNELS = "channels"
    """Feature maps ``[B,d,H,W]`` (or ``[B,H,W,d]``), pooled by the spatial mean; or a plain vector ``[B,d]``."""
    TOKENS = "tokens"
    """Tokens ``[B,T,d]``, pooled by the class token where the model pools by it, else by their mean."""
    FEATURES = "features"
    """Codes of a dictionary at every position of another layer, pooled as that layer is."""
    LOGITS = "logits"
    """The model's output."""


@dataclass(frozen=True)
class Layer:
    """A layer that can be captured and edited.

    Attributes:
        name: Its name, dots of the module path kept.
        kind: What its output is made of.
        units: How many units ``d`` it has.
        module: Path of its module in the model (of a dictionary: of the layer it is on); empty for the logits.
    """

    name: str
    kind: LayerKind
    units: int
    module: str

    @property
    def base(self) -> str:
        """The layer whose output holds the units: of features the layer that their dictionary is on, else itself."""
        return base_layer(self.name)


@dataclass(frozen=True)
class Layout:
    """How a family lays out its activations.

    Attributes:
        class_token: Tokens are pooled by the first one, not by their mean.
        prefix_tokens: Leading tokens that are no patches; the mean leaves them out.
        channels_last: Feature maps are ``[B,H,W,d]``.
    """

    class_token: bool = False
    prefix_tokens: int = 0
    channels_last: bool = False


@dataclass
class Output:
    """What a forward pass gives, on the CPU.

    Attributes:
        logits: float32 ``[B, K]``, after edits.
        activations: Pooled float32 ``[B, d]`` by captured layer, after edits.
    """

    logits: Tensor
    activations: dict[str, Tensor] = field(default_factory=dict)


def with_features(layers: dict[str, Layer], dictionaries: Sequence[SparseAutoencoder], model: str) -> dict[str, Layer]:
    """Return the layers with the features of each layer's dictionaries behind it.

    Raises:
        NotFound: a dictionary is on none of the layers, or on the logits.
        InvalidInput: a dictionary reads another number of units than its layer has.
    """
    hidden = {name: layer for name, layer in layers.items() if layer.kind is not LayerKind.LOGITS}
    for sae in dictionaries:
        if sae.base not in hidden:
            allowed = ", ".join(hidden)
            text = f"{sae.layer}: {model!r} has no such layer for a dictionary; it has {allowed}."
            raise NotFound(text, field="layer", allowed=allowed)
        if hidden[sae.base].units != sae.width:
            text = f"{sae.layer}: the dictionary reads {sae.width} units; {sae.base!r} has {hidden[sae.base].units}."
            raise InvalidInput(text, field="layer")
    found: dict[str, Layer] = {}
    for layer in layers.values():
        features = [Layer(sae.layer, LayerKind.FEATURES, sae.features, layer.module)
                    for sae in dictionaries if sae.base == layer.name]  # fmt: skip
        found |= {one.name: one for one in (layer, *features)}
    return found
