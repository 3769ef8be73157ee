"""Network Dissection (Bau et al., CVPR 2017): a unit's concept is the one whose objects its strongest positions cover.

Each unit is thresholded at the activation that 0.5 % of all positions exceed, its map upsampled to the masks, and
compared with the masks of every class over the whole probe set:

    IoU[k, i] = Σ_x |M_i(x) ∩ L_k(x)| / Σ_x |M_i(x) ∪ L_k(x)|

Needs what no other method does: a mask of the object on every image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from miclip.alignment import ProbeSet
from miclip.evaluation.methods._data import Positions, ProbeData, no_positions
from miclip.evaluation.methods._method import Method, Price
from miclip.evaluation.methods._ranks import by_class, label_by_class
from miclip.evaluation.resume import layer_output
from miclip.models.features import encode_features
from miclip.models.target import LayerKind, TargetModel

Float32 = NDArray[np.float32]

TOP_SHARE = 0.005
"""Share of positions that count as a unit's strongest."""
GRID = 16
"""Edge of the grid that maps and masks are compared on."""
_BATCH = 64


@runtime_checkable
class MaskedProbe(Protocol):
    """A probe set that knows where its objects are.

    Attributes:
        labels: True class of every image, int64 ``[N]``.
    """

    labels: Tensor

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return images ``start`` to ``stop``, each uint8 ``[3, H, W]``."""
        ...

    def masks(self, start: int, stop: int) -> Tensor:
        """Return how much of each pixel the object covers, float32 ``[n, H, W]``, 0 to 1."""
        ...


def network_dissection(maps: Tensor, masks: Tensor, labels: Tensor, classes: int) -> Float32:
    """Return the IoU of units and classes, float32 ``[K, d]``.

    Args:
        maps: Activation of every unit at every position, ``[N, d, h, w]``.
        masks: How much of each pixel the object covers, ``[N, H, W]``, 0 to 1.
        labels: Class of the object, int64 ``[N]``.
        classes: Number of classes K.
    """
    thresholds = _thresholds(maps)[None, :, None, None]
    objects = (adaptive_avg_pool2d(masks[:, None], GRID) > 0.5).flatten(1).float()
    both, strong = torch.zeros(classes, maps.shape[1]), torch.zeros(maps.shape[1])
    for rows in torch.arange(len(maps)).split(_BATCH):
        upsampled = interpolate(maps[rows].float(), size=(GRID, GRID), mode="bilinear", align_corners=False)
        high = (upsampled > thresholds).flatten(2).float()
        strong += high.sum(dim=(0, 2))
        both.index_add_(0, labels[rows], torch.einsum("ndp,np->nd", high, objects[rows]))
    covered = torch.zeros(classes).index_add_(0, labels, objects.sum(dim=1))
    union = strong[None, :] + covered[:, None] - both
    return (both / union.clamp(min=1.0)).numpy()


def spatial_maps(model: TargetModel, layer: str, images: Tensor) -> Tensor | None:
    """Return a layer's units at every position, float32 ``[N, d, h, w]``, or None where it has no positions.

    Args:
        model: The target model.
        layer: One of its layers, of neurons or of features.
        images: Preprocessed, float32 ``[N, 3, S, S]``.
    """
    if model.layers[layer].kind is LayerKind.LOGITS:
        return None
    output = layer_output(model.module, model.layers[layer].module, images).float()
    if layer in model.dictionaries:
        output = _codes(model, layer, output)
    if output.ndim == 3:
        edge = int(output.shape[1] ** 0.5)
        # class and register tokens, where there are any, come first
        output = output[:, output.shape[1] - edge**2 :].transpose(1, 2).unflatten(2, (edge, edge)).contiguous()
    return output if output.ndim == 4 and output.shape[2] > 1 else None


@torch.inference_mode()
def _codes(model: TargetModel, layer: str, output: Tensor) -> Tensor:
    """Codes of a layer's whole output, laid out as it."""
    axis = model.unit_axis(output)
    parts = output.split(_BATCH)
    return torch.cat([encode_features(part, model.dictionaries[layer], axis).values.movedim(-1, axis)
                      for part in parts])  # fmt: skip


def _thresholds(maps: Tensor) -> Tensor:
    """What each unit exceeds at ``TOP_SHARE`` of all positions, ``[d]``."""
    by_unit = maps.transpose(0, 1).flatten(1)
    count = max(1, round(TOP_SHARE * by_unit.shape[1]))
    return torch.stack([values.topk(count + 1).values[-1] for values in by_unit])


def positions_of(
    model: TargetModel, layer: str, probe: ProbeSet, images: Tensor | None = None
) -> Callable[[], Positions | None]:
    """Return what computes a layer's units at every position of a probe set; it gives None where there are no masks.

    Args:
        model: The target model.
        layer: One of its layers.
        probe: The images.
        images: The first of them, preprocessed, where they are at hand; then the masks are read at once, too.
    """
    if not isinstance(probe, MaskedProbe) or model.layers[layer].kind is LayerKind.LOGITS:
        return no_positions
    total = len(probe.names) if images is None else len(images)
    masks = None if images is None else probe.masks(0, total)

    def compute() -> Positions | None:
        batch = torch.stack([model.preprocess(image) for image in probe.load(0, total)]) if images is None else images
        maps = spatial_maps(model, layer, batch)
        if maps is None:
            return None
        return Positions(maps, probe.masks(0, total) if masks is None else masks, probe.labels[:total])

    return compute


def _scores(probe: ProbeData) -> Float32 | None:
    positions = probe.positions()
    if positions is None:
        return None
    return network_dissection(positions.maps, positions.masks, positions.labels, probe.classes)


METHODS = (
    Method(
        "network_dissection",
        "Network Dissection",
        "which classes a query covers, and a mask of the object on every probe image",
        order=70,
        rank=by_class(_scores),
        label=label_by_class(_scores),
        price=Price((), _scores),
    ),
)
