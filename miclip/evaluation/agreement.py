"""How well a unit's label says when the unit is active: correlation, AUPRC, F1 and IoU.

These are the measures that pass the sanity tests of Oikarinen et al. (ICML 2025). All are computed for every pair of a
class and a unit at once, on images that nothing was trained on; the score of a labelling is then looked up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from miclip.evaluation.figures import NullFigure
from miclip.evaluation.result import Agreement

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ACTIVE_SHARE = 0.01
"""Share of the images on which a unit counts as active, for F1 and IoU: about the share of one class among 128."""
MEASURES = ("correlation", "auprc", "f1", "iou")
RESAMPLES = 1000
SHUFFLES = 20


def agreement(activations: Float32, labels: Int64, classes: int) -> dict[str, Float64]:
    """Return each measure of every class against every unit, float64 ``[K, d]``.

    Args:
        activations: Pooled activations, float32 ``[N, d]``.
        labels: Class of each image, int64 ``[N]``.
        classes: Number of classes K, each with at least one image.

    Returns:
        ``correlation`` (Pearson's, 0 for a unit that never moves), ``auprc`` (average precision of the activation as a
        detector of the class), ``f1`` and ``iou`` (of the class and the images on which the unit is active: the
        ``ACTIVE_SHARE`` strongest, those at the unit's minimum never).
    """
    shown = np.eye(classes)[labels]
    active = _active(activations).astype(np.float64)
    both, either = shown.T @ active, shown.sum(axis=0)[:, None] + active.sum(axis=0)[None, :]
    return {
        "correlation": _correlation(activations.astype(np.float64), shown),
        "auprc": _average_precision(activations, labels, classes),
        "f1": 2 * both / either,
        "iou": both / (either - both),
    }


def summarise_agreement(
    measured: dict[str, Float64], labellings: Sequence[tuple[Int64, NDArray[np.bool_]]]
) -> Agreement | None:
    """Summarise the labellings of one method.

    Args:
        measured: Of ``agreement``.
        labellings: Per seed, the class of each unit ``[d]`` and which units count ``[d]``.

    Returns:
        Each measure's mean over the units that count in any seed (a unit's is its mean over the seeds), with its 95 %
        interval over units, and the same mean with labels shuffled among units; None where no unit counts.
    """
    if not any(counted.any() for _, counted in labellings):
        return None
    return Agreement(**{name: _figure(measured[name], labellings) for name in MEASURES})


def _figure(measure: Float64, labellings: Sequence[tuple[Int64, NDArray[np.bool_]]]) -> NullFigure:
    by_unit = _mean(np.stack([_looked_up(measure, labels, counted) for labels, counted in labellings]))
    by_unit = by_unit[~np.isnan(by_unit)]
    rows = np.random.default_rng(0).integers(len(by_unit), size=(RESAMPLES, len(by_unit)))
    low, high = np.percentile(by_unit[rows].mean(axis=1), [2.5, 97.5])
    null = _null(measure, labellings)
    return NullFigure(value=float(by_unit.mean()), low=float(low), high=float(high), null=null)


def _null(measure: Float64, labellings: Sequence[tuple[Int64, NDArray[np.bool_]]]) -> float:
    generator, means = np.random.default_rng(0), []
    for labels, counted in labellings:
        if counted.any():
            kept, units = labels[counted], np.flatnonzero(counted)
            means += [measure[generator.permutation(kept), units].mean() for _ in range(SHUFFLES)]
    return float(np.mean(means))


def _looked_up(measure: Float64, labels: Int64, counted: NDArray[np.bool_]) -> Float64:
    return np.where(counted, measure[labels, np.arange(len(labels))], np.nan)


def _mean(values: Float64) -> Float64:
    """Mean over the seeds that count a unit, ``[S, d] → [d]``; NaN where none does."""
    counts = (~np.isnan(values)).sum(axis=0)
    return np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)


def _active(activations: Float32) -> NDArray[np.bool_]:
    count = max(1, round(ACTIVE_SHARE * len(activations)))
    threshold = np.sort(activations, axis=0)[-count]
    return (activations >= threshold) & (activations > activations.min(axis=0))


def _correlation(activations: Float64, shown: Float64) -> Float64:
    moved, seen = activations - activations.mean(axis=0), shown - shown.mean(axis=0)
    norms = np.linalg.norm(seen, axis=0)[:, None] * np.linalg.norm(moved, axis=0)[None, :]
    correlation: Float64 = np.where(norms > 1e-12, (seen.T @ moved) / np.maximum(norms, 1e-12), 0.0)
    return correlation


def _average_precision(activations: Float32, labels: Int64, classes: int) -> Float64:
    """Mean over a class's images of the precision among the images at least as active as that one; ties go together."""
    at_least = rankdata(-activations, method="max", axis=0)
    found = np.empty((classes, activations.shape[1]))
    for label in range(classes):
        own = activations[labels == label]
        positives = (own[None] >= own[:, None]).sum(axis=1)
        found[label] = (positives / at_least[labels == label]).mean(axis=0)
    return found
