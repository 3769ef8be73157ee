"""What methods work on: one layer of an atlas, and what a pass over the probe images gives of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from miclip.alignment import NeuronEncoder
from miclip.retrieval.search import AtlasSearcher

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Positions:
    """Units at every position of the probe images, and where the objects are.

    Attributes:
        maps: Activations, ``[N, d, h, w]``.
        masks: How much of each pixel the object covers, ``[N, H, W]``, 0 to 1.
        labels: Class of the object, int64 ``[N]``.
    """

    maps: Tensor
    masks: Tensor
    labels: Tensor


def no_positions() -> Positions | None:
    """Say that there are none."""
    return None


@dataclass(frozen=True)
class ProbeData:
    """What a pass over N probe images gives of a layer of d units.

    Attributes:
        activations: Pooled activations, float32 ``[N, d]``.
        attributions: To the predicted class, float32 ``[N, d]``.
        predicted: Class that the model predicts, int64 ``[N]``.
        images: CLIP embeddings of the images, normalised, float32 ``[N, D]``.
        names: CLIP embeddings of the class names, normalised, float32 ``[K, D]``.
        weight: float32 ``[K, d]`` where a last linear layer reads this one, else None.
        positions: Computes the units at every position; gives None where there are no positions or no masks.
        encoder: The trained encoder, where costs are measured.
    """

    activations: Float32
    attributions: Float32
    predicted: Int64
    images: Float32
    names: Float32
    weight: Float32 | None = None
    positions: Callable[[], Positions | None] = no_positions
    encoder: NeuronEncoder | None = None

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.names)

    @property
    def units(self) -> int:
        """Number of units d."""
        return self.activations.shape[1]

    @cached_property
    def effects(self) -> Float32:
        """Class-mean attributions, float32 ``[K, d]``: what the units drive."""
        return class_means(self.attributions, self.predicted, self.classes)


class LayerData:
    """One layer of an atlas, as methods are given it.

    Args:
        searcher: Of the atlas.
        layer: The layer, or a dictionary on one.
        seed: Of the controls.
        weight: See ``ProbeData``.
        positions: See ``ProbeData``.
    """

    def __init__(
        self,
        searcher: AtlasSearcher,
        layer: str,
        seed: int,
        weight: Float32 | None = None,
        positions: Callable[[], Positions | None] = no_positions,
    ) -> None:
        atlas, data = searcher.atlas, searcher.atlas.layer(layer)
        self.searcher, self.layer, self.seed = searcher, layer, seed
        self.probe = ProbeData(
            activations=dense(data.activations),
            attributions=dense(data.attributions),
            predicted=np.asarray(atlas.predicted, np.int64),
            images=np.asarray(atlas.image_embeddings, np.float32),
            names=np.asarray(atlas.label_embeddings, np.float32),
            weight=weight,
            positions=positions,
        )
        self._computed: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return what ``compute`` gives, computed once for a key."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]


def class_means(values: Float32, predicted: Int64, classes: int) -> Float32:
    """Return the mean row of each class, float32 ``[K, d]``; zero for a class that is never predicted."""
    means = np.zeros((classes, values.shape[1]), np.float32)
    for label in range(classes):
        rows = predicted == label
        if rows.any():
            means[label] = values[rows].mean(axis=0)
    return means


def dense(values: NDArray[np.floating] | sparse.csr_array) -> Float32:
    """Return float32 ``[N, d]`` of what may be sparse, as the codes of a dictionary are."""
    return np.asarray(values.toarray() if isinstance(values, sparse.csr_array) else values, np.float32)
