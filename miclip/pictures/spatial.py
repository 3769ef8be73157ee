"""Where on an image a unit is active, and where it speaks for the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from miclip.errors import InvalidInput
from miclip.models.target import TargetModel
from miclip.pictures.colours import HEAT, colourise

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

_STRONGEST = 0.85
"""Opacity of the hottest position: the image still shines through."""


@dataclass(frozen=True)
class UnitMap:
    """What one unit does over one image.

    Attributes:
        image: What the model sees, after its preprocessing, uint8 ``[S, S, 3]``.
        activation: By position of the layer, float32 ``[H, W]``.
        attribution: Activation times gradient of the predicted label's margin, in logits, float32 ``[H, W]``.
        predicted: The predicted label.
    """

    image: UInt8
    activation: Float32
    attribution: Float32
    predicted: str


def unit_maps(model: TargetModel, images: Sequence[Tensor], layer: str, units: Sequence[int]) -> list[UnitMap]:
    """Map units over images: ``units[i]`` over ``images[i]``.

    Args:
        model: The target model.
        images: Each uint8 ``[3, H, W]``.
        layer: Layer of the units.
        units: One unit an image.

    Raises:
        NotFound: the model has no such layer.
        InvalidInput: the layer's output has no positions, or a unit is out of range.
    """
    inputs = torch.stack([model.preprocess(image) for image in images])
    logits, activations, attributions = model.positions(inputs, layer)
    last = activations.shape[1] - 1
    for unit in units:
        if not 0 <= unit <= last:
            raise InvalidInput(f"UNIT: {layer} has the units 0 to {last}, not {unit}.", field="UNIT",
                               allowed=f"0 to {last}")  # fmt: skip
    return [
        UnitMap(
            image=_seen(model, inputs[row]),
            activation=activations[row, unit].numpy(),
            attribution=attributions[row, unit].numpy(),
            predicted=model.labels[int(logits[row].argmax())],
        )
        for row, unit in enumerate(units)
    ]


def upsample(values: Float32, size: int) -> Float32:
    """Return a map ``[H, W]`` in the image's resolution ``[size, size]``, bilinearly between the centres of cells."""
    grown = interpolate(torch.from_numpy(values)[None, None], (size, size), mode="bilinear", align_corners=False)
    found: Float32 = grown[0, 0].numpy()
    return found


def heat_range(values: Float32) -> tuple[float, float]:
    """Return what the coldest and the hottest colour stand for: 0, or the lowest value below it, and the highest."""
    return min(0.0, float(values.min())), float(values.max())


def overlay(found: UnitMap) -> UInt8:
    """Return the image in grey with the unit's activation over it in colour, uint8 ``[S, S, 3]``.

    The colour and its opacity run over ``heat_range``; where the unit is nowhere above its lowest value the image stays
    grey.
    """
    low, high = heat_range(found.activation)
    strength = upsample(found.activation, len(found.image)) - low
    strength = np.clip(strength / (high - low), 0, 1) if high > low else np.zeros_like(strength)
    opacity = _STRONGEST * strength[..., None]
    mixed = (1 - opacity) * grey(found.image)[..., None] + opacity * colourise(strength, HEAT)
    return mixed.round().astype(np.uint8)


def grey(image: UInt8) -> NDArray[np.float64]:
    """Return the lightness ``[S, S]``, 0 to 255, of an image ``[S, S, 3]``."""
    found: NDArray[np.float64] = image @ np.array([0.299, 0.587, 0.114])
    return found


def _seen(model: TargetModel, inputs: Tensor) -> UInt8:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.preprocess.mean, model.preprocess.std))
    pixels = (inputs * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
    found: UInt8 = pixels.permute(1, 2, 0).numpy()
    return found
