"""Attribution at one point or along a path: where a layer saturates, the gradient at one point misleads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from miclip.models.target import TargetModel


def attribute(
    model: TargetModel, images: Tensor, layers: Sequence[str], points: int = 1, *, classes: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Attribute the margin of the predicted label, or of another, to the units of some layers.

    With one point it is the gradient at the activations as they are. With more it is the mean of the gradients at the
    midpoints of ``points`` equal parts of the way from a layer without activations to the layer as it is: integrated
    gradients (Sundararajan et al. 2017) of a gain on the whole layer, whose attributions of all units sum to what the
    layer adds to the margin. A further point costs a pass for every layer.

    Args:
        model: The target model.
        images: float32 ``[B,3,S,S]``, preprocessed; any device.
        layers: Names of layers.
        points: Points of the path, at least 1.
        classes: Labels whose margin is attributed instead of the predicted, int64 ``[B]``.

    Returns:
        Logits ``[B,K]``, pooled activations and attributions ``[B,d]`` by layer; float32, on the CPU.

    Raises:
        NotFound: a layer does not exist.
    """
    logits, activations, attributions = model.attribute(images, layers, classes=classes)
    if points == 1:
        return logits, activations, attributions
    of = logits.argmax(dim=1) if classes is None else classes
    midpoints = [(point + 0.5) / points for point in range(points)]
    for layer in layers:
        found = [model.attribute(images, [layer], gain=gain, classes=of)[2][layer] for gain in midpoints]
        attributions[layer] = torch.stack(found).mean(dim=0)
    return logits, activations, attributions
