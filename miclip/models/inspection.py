"""The layers of a model with their shapes, whether it is aligned or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from miclip.models.discovery import Survey
from miclip.models.layers import LOGITS, LayerKind, Layout


@dataclass(frozen=True)
class LayerShape:
    """A layer, or a submodule that can be one.

    Attributes:
        name: Path of the module; ``logits`` of the model's output.
        kind: What its output is made of.
        units: How many units it has.
        shape: Of its output for one image.
        default: Whether it is a layer where none is named.
    """

    name: str
    kind: LayerKind
    units: int
    shape: tuple[int, ...]
    default: bool


def layer_shapes(
    module: nn.Module, size: int, layers: Sequence[str], layout: Layout, *, every: bool = False
) -> tuple[LayerShape, ...]:
    """Run a model once; returns its layers, from the input to the logits.

    Args:
        module: Maps ``[B,3,S,S]`` to logits.
        size: ``S``.
        layers: Its layers.
        layout: How it lays out its activations.
        every: Also every other submodule whose output can be a layer.

    Raises:
        InvalidInput: the model fails on its own input size.
    """
    survey = Survey(module, size)
    usable = survey.usable()
    shown = [path for path in survey.parts if path in layers or (every and path in usable)]
    shapes = {path: tuple((survey.parts[path].shape or ())[1:]) for path in shown}
    found = [_layer(path, shape, layout, default=path in layers) for path, shape in shapes.items()]
    return (*found, LayerShape(LOGITS, LayerKind.LOGITS, survey.outputs, (survey.outputs,), default=True))


def _layer(path: str, shape: tuple[int, ...], layout: Layout, *, default: bool) -> LayerShape:
    kind = LayerKind.TOKENS if len(shape) == 2 else LayerKind.CHANNELS
    units = shape[0] if len(shape) == 3 and not layout.channels_last else shape[-1]
    return LayerShape(path, kind, units, shape, default)
