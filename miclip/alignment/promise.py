"""What can be promised of a layer's labels: tried on images that neither label nor encoder saw, in other colours.

The probe images are dealt to parts. Further encoders, each of another seed, are trained without one part, and label the
units anew. Such a label is *right* when it names one of the classes that the unit drives most on the images of the part
left out, recoloured. How sure a label is, its *confidence*, is how often it holds on the parts that it may see,
recoloured too. So the confidence from which on labels are right often enough is found on labels and images that had no
part in each other, and it carries over to the labels of all images, whose confidence is taken over all parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miclip.promise import LEAST_SHOWN, Promise

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

TOP_CLASSES = 5
"""A label is right when it is among so many classes that the unit drives most, of all of the model's."""
LEAST_COVERAGE = 0.05
"""Share of a layer's units that a promise covers at least: it would be the luck of a few else."""
LEAST_UNITS = 10
"""The same as a number."""
_Z = 1.6449  # one-sided 95 %
_TIE = 0.02  # what contrast adds to a confidence at most: it orders labels that held equally often
_CONTRAST = 10.0  # standard deviations at which it adds most of that


@dataclass(frozen=True)
class Part:
    """What a layer's units drive on some recoloured images.

    Attributes:
        classes: Classes predicted there, int64 ``[C]``, ascending.
        means: Mean attribution of every unit on the images of each, float32 ``[C, d]``, in logits.
        labels: Number of the model's labels K.
    """

    classes: Int64
    means: Float32
    labels: int

    @classmethod
    def of(cls, attributions: Float32, predicted: Int64, labels: int) -> Part:
        """Summarise rows: attributions ``[n, d]`` and predicted labels ``[n]``."""
        classes, places = np.unique(predicted, return_inverse=True)
        order = np.argsort(places, kind="stable")
        starts = np.searchsorted(places[order], np.arange(len(classes)))
        sums = np.add.reduceat(attributions[order], starts, axis=0)
        return cls(classes, (sums / np.bincount(places)[:, None]).astype(np.float32), labels)

    def shows(self, best: Int64) -> Bool:
        """Whether the images show the class that each label ``[d]`` names."""
        return np.isin(best, self.classes)

    def ahead(self, best: Int64) -> Int64:
        """Return how many classes each unit drives more than its label's ``[d]``; all where it lowers that one."""
        units = np.arange(len(best))
        own = self.means[np.searchsorted(self.classes, best).clip(max=len(self.classes) - 1), units]
        ahead = (self.means > own).sum(axis=0)
        return np.where(self.shows(best) & (own > 0), ahead, len(self.classes))

    def right(self, best: Int64) -> Bool:
        """Whether each label ``[d]`` is among the classes that the unit drives most: five of all, fewer of a part."""
        most = max(1, round(TOP_CLASSES * len(self.classes) / self.labels))
        return self.ahead(best) < min(most, len(self.classes))


def confidences(best: Int64, contrast: Float32, effect: Float32, parts: Sequence[Part]) -> Float32:
    """Return how sure the labels of a layer's units are, float32 ``[d]``, 0 to 1.

    A label has two tries in each part that shows its class: to be among the classes that the unit drives most, and to
    be the first. Half a try is added as passed and half as failed. A label that fewer than two parts can try, or that
    the unit does not raise, has no confidence.

    Args:
        best: Label of every unit, ``[d]``.
        contrast: By how many standard deviations its causal score stands out, ``[d]``; orders labels that do alike.
        effect: Its causal score, ``[d]``, in logits.
        parts: Recoloured images by part.
    """
    shown = np.stack([part.shows(best) for part in parts])
    passed = np.stack([part.right(best) + (part.ahead(best) == 0).astype(int) for part in parts])
    tries = 2 * shown.sum(axis=0)
    share = ((passed * shown).sum(axis=0) + 0.5) / (tries + 1)
    sure = (share + _TIE * np.tanh(contrast / _CONTRAST)) / (1 + _TIE)
    return np.where((shown.sum(axis=0) >= LEAST_SHOWN) & (effect > 0), sure, 0.0).astype(np.float32)


def calibrate(confidence: Float32, right: Bool, shown: Bool, wanted: float) -> Promise:
    """Return what can be promised from which confidence on: as many labels as hold ``wanted`` by the lower bound.

    The labels of one unit by several encoders are one unit's: the bound (Wilson's, one-sided, 95 %) counts units.

    Args:
        confidence: Of every label, by encoder and unit, ``[F, d]``.
        right: Whether it was right on the part that its encoder had not seen, ``[F, d]``.
        shown: Whether that part shows its class; only such labels are judged, ``[F, d]``.
        wanted: Share of right labels, 0 to 1.
    """
    judged = shown & (confidence > 0)
    units = np.broadcast_to(np.arange(confidence.shape[1]), confidence.shape)[judged]
    order = np.argsort(-confidence[judged], kind="stable")
    if not len(order):
        return Promise(wanted, reached=False, precision=0.0, low=0.0, coverage=0.0, confidence=1.0)
    ranked, hits, units = confidence[judged][order], right[judged][order], units[order]
    first = np.zeros(len(units), int)
    first[np.unique(units, return_index=True)[1]] = 1
    distinct = np.cumsum(first)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    low = _lower_bound(precision, distinct)
    enough = distinct >= max(LEAST_UNITS, LEAST_COVERAGE * confidence.shape[1])
    able = enough & np.append(ranked[1:] < ranked[:-1], True)  # equal confidences stay together
    good = np.flatnonzero(able & (low >= wanted))
    at = int(good[-1]) if len(good) else int(np.argmax(np.where(able, low, -1.0)))
    return Promise(wanted, bool(len(good)), float(precision[at]), float(low[at]), 0.0, float(ranked[at]))


def _lower_bound(share: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Wilson's lower bound of a share of ``count``."""
    square = _Z**2 / count
    spread = _Z * np.sqrt(share * (1 - share) / count + square / (4 * count))
    bound: NDArray[np.float64] = (share + square / 2 - spread) / (1 + square)
    return bound
