"""White boxes: what knows the model's weights, or what the model predicted for every image, and needs no search."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from miclip.evaluation.methods._data import ProbeData, class_means
from miclip.evaluation.methods._method import Method
from miclip.evaluation.methods._ranks import by_class
from miclip.models.target import TargetModel

Float32 = NDArray[np.float32]


def weight_times_activation(probe: ProbeData) -> Float32 | None:
    """Return ``W[k, i] · mean activation of unit i on class k``, float32 ``[K, d]``; None below the last layers."""
    if probe.weight is None:
        return None
    return probe.weight * class_means(probe.activations, probe.predicted, len(probe.weight))


def oracle(probe: ProbeData) -> Float32:
    """Return class means of attributions, float32 ``[K, d]``: the closed vocabulary without a shared space."""
    return probe.effects


def last_weight(model: TargetModel, layer: str, images: Tensor) -> Float32 | None:
    """Return the weight ``[K, d]`` of the linear layer that gives the logits from a layer's pooled units, or None.

    Args:
        model: The target model.
        layer: The layer.
        images: Some, preprocessed, on which the logits are compared with what the weight makes of the units.
    """
    linear = [module for module in model.module.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].weight.shape != (len(model.labels), model.layer_sizes[layer]):
        return None
    output = model.forward(images, [layer])
    with torch.inference_mode():
        logits = linear[-1](output.activations[layer].to(linear[-1].weight.dtype))
    if not torch.allclose(logits.float(), output.logits.float(), rtol=1e-3, atol=1e-3):
        return None
    weight: Float32 = linear[-1].weight.detach().float().cpu().numpy()
    return weight


METHODS = (
    Method(
        "weight_x_activation",
        "weight × activation",
        "which classes a query covers, and the model's last weights",
        order=120,
        role="whitebox",
        rank=by_class(weight_times_activation),
    ),
    Method(
        "oracle",
        "oracle",
        "which classes a query covers, and the attributions of every class's images",
        order=130,
        role="whitebox",
        rank=by_class(oracle),
    ),
)
