"""Label drift: whether live images still excite the units that the probe images excited.

Labels and attributions were learnt from the probe images. Traffic that excites other units is traffic about which the
atlas says little, whatever the reason: another kind of image, a broken camera, a changed preprocessing.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from miclip.atlas.layer import LayerAtlas

TOP_UNITS = 10
"""Units of an image that count as excited."""
WINDOW = 256
"""Newest images that are compared."""

_MAX_ROWS = 8192  # probe rows read
_DRAWS = 16  # samples of probe rows behind the expectation


class DriftMonitor:
    """Compares the units that the newest images excite most with those of the probe images.

    An image excites the ``TOP_UNITS`` units with the largest ``(a_i − mean_i) / std_i``, with the atlas's mean and
    standard deviation of unit i; units that never change are left out. Let ``p_i`` be unit i's share of the
    excitations by all probe rows, and ``q_i`` its share of those by the newest ``WINDOW`` images. Then

        similarity = min(1, Σ_i min(p_i, q_i) / e)

    where ``e`` is what as many probe rows, drawn at random, reach on average: a window is too short to reach 1 itself.
    The range is 0 (no unit in common) to 1 (no further from the probe set than a part of it). Not safe to share
    between threads.

    Args:
        layer: The layer's atlas; its activations are read once, at most 8192 rows.
        window: Newest images that are compared.
        seed: Seed of the drawn rows.

    Attributes:
        expected: ``e``, 0 to 1.
    """

    def __init__(self, layer: LayerAtlas, window: int = WINDOW, seed: int = 0) -> None:
        self._mean, self._std = np.asarray(layer.mean), np.asarray(layer.std)
        self._count = min(TOP_UNITS, max(1, int((self._std > 0).sum())))
        step = max(1, -(-len(layer.activations) // _MAX_ROWS))
        probe = self._excited(layer.activations[::step].astype(np.float32))
        self._probe = self._shares(probe)
        rng = np.random.default_rng(seed)
        drawn = (probe[rng.choice(len(probe), window, replace=window > len(probe))] for _ in range(_DRAWS))
        self.expected = float(np.mean([_overlap(self._shares(rows), self._probe) for rows in drawn]))
        self._window = window
        self._newest: deque[NDArray[np.intp]] = deque(maxlen=window)

    @property
    def units(self) -> int:
        """Units of the layer, d."""
        return len(self._mean)

    def add(self, activations: NDArray[np.floating]) -> None:
        """Take in the pooled activations [n, d] of n new images."""
        self._newest.extend(self._excited(np.asarray(activations, np.float32)))

    def similarity(self) -> float | None:
        """The similarity, 0 to 1; None until ``window`` images were taken in."""
        if len(self._newest) < self._window:
            return None
        return min(1.0, _overlap(self._shares(np.stack(self._newest)), self._probe) / self.expected)

    def _excited(self, activations: NDArray[np.float32]) -> NDArray[np.intp]:
        """Units [n, TOP_UNITS] that stand out most."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.where(self._std > 0, (activations - self._mean) / self._std, -np.inf)
        return np.argpartition(-scores, self._count - 1, axis=1)[:, : self._count]

    def _shares(self, excited: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.bincount(excited.ravel(), minlength=self.units) / excited.size


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Share that two distributions have in common: 1 minus their total variation distance."""
    return float(np.minimum(one, other).sum())
