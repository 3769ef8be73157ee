"""The labels of a layer's units by method, and how many of them are right on images that nothing saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.figures import Figure
from miclip.evaluation.judge import Judge
from miclip.evaluation.measures import LabelFigures
from miclip.evaluation.methods import LayerData, label_units

RESAMPLES = 1000
OWN = "default"
"""The method whose abstention says how many labels the others keep."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Labelling:
    """One seed's labels of one method.

    Attributes:
        concepts: Class of every unit, int64 ``[d]``.
        counted: Units that are judged: the same for all methods, ``[d]``.
        kept: Units of these whose labels are kept, ``[d]``.
        drives: Whether the label is among the classes that the unit drives most, ``[d]``.
        active: Whether the label is among the classes that the unit is most active for, ``[d]``.
    """

    concepts: NDArray[np.int64]
    counted: Bools
    kept: Bools
    drives: Bools
    active: Bools


def labellings(data: LayerData, judge: Judge) -> dict[str, Labelling]:
    """Return the labels by method, judged.

    miclip's own labels are kept where it does not abstain; of every other method as many are kept, those of which it is
    surest. So all of them abstain alike.
    """
    found, live = label_units(data), judge.live
    own = found.get(OWN)
    given = live if own is None or own.given is None else live & own.given
    units = np.arange(len(live))
    return {
        name: Labelling(
            labels.concepts,
            live,
            given if name == OWN else _surest(labels.sureness, live, int(given.sum())),
            judge.drives[labels.concepts, units],
            judge.excites[labels.concepts, units],
        )
        for name, labels in found.items()
    }


def label_figures(seeds: Sequence[Labelling]) -> LabelFigures:
    """Summarise one method's labels; units are the sample, and a unit's labels of several seeds are one cluster."""
    rows = _Clusters(len(seeds[0].counted))
    counted, kept = (np.stack([getattr(seed, what) for seed in seeds]) for what in ("counted", "kept"))
    drives, active = (np.stack([getattr(seed, what) for seed in seeds]) for what in ("drives", "active"))
    return LabelFigures(
        drives=rows.share(drives, counted) or Figure(value=0.0, low=0.0, high=0.0),
        active=rows.share(active, counted) or Figure(value=0.0, low=0.0, high=0.0),
        coverage=100.0 * float(kept.sum() / max(counted.sum(), 1)),
        kept_drives=rows.share(drives, kept),
        kept_active=rows.share(active, kept),
    )


def summarise_labels(methods: Mapping[str, Sequence[Labelling]]) -> dict[str, LabelFigures]:
    """Summarise the labels of every method."""
    return {name: label_figures(seeds) for name, seeds in methods.items()}


class _Clusters:
    """Resamples of units, each with all its seeds."""

    def __init__(self, units: int) -> None:
        self._rows = np.random.default_rng(0).integers(units, size=(RESAMPLES, units))

    def share(self, right: Bools, among: Bools) -> Figure | None:
        """Return the share of right ones among some, both ``[S, d]``, in percent; None where there are none."""
        hits, total = (right & among).sum(axis=0), among.sum(axis=0)
        if not total.any():
            return None
        sums, counts = hits[self._rows].sum(axis=1), total[self._rows].sum(axis=1)
        shares = 100.0 * sums[counts > 0] / counts[counts > 0]
        low, high = np.percentile(shares, [2.5, 97.5])
        return Figure(value=100.0 * float(hits.sum() / total.sum()), low=float(low), high=float(high))


def _surest(sureness: NDArray[np.floating] | None, live: Bools, count: int) -> Bools:
    """The ``count`` live units whose labels a method is surest of; all live ones where it does not say."""
    if sureness is None:
        return live
    order = np.argsort(np.where(live, -sureness, np.inf), kind="stable")
    kept = np.zeros(len(live), bool)
    kept[order[:count]] = True
    return kept
