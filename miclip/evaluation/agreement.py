"""How well a unit's label says when the unit is active: correlation, cosine, AUPRC, F1 and IoU.

These are the measures that pass the sanity tests of Oikarinen et al. (ICML 2025); ``sanity`` does the tests again. All
are computed for every pair of a class and a unit at once, on images that nothing was trained on; the score of a
labelling is then looked up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from miclip.evaluation.figures import NullFigure
from miclip.evaluation.measures import Agreement, Sanity

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ACTIVE_SHARE = 0.01
"""Share of the images on which a unit counts as active, for F1 and IoU: about the share of one class among 128."""
MEASURES = ("correlation", "cosine", "auprc", "f1", "iou")
TESTED = (*MEASURES, "precision", "recall")
"""Measures that are tested: precision and recall are known to fail, which shows that the tests can."""
RESAMPLES = 1000
SHUFFLES = 20


def agreement(activations: Float32, labels: Int64, classes: int) -> dict[str, Float64]:
    """Return each measure of every class against every unit, float64 ``[K, d]``.

    Args:
        activations: Pooled activations, float32 ``[N, d]``.
        labels: Class of each image, int64 ``[N]``.
        classes: Number of classes K; one without an image agrees with nothing.

    Returns:
        See ``measure``.
    """
    return measure(activations, np.eye(classes, dtype=bool)[labels])


def measure(activations: Float32, shown: NDArray[np.bool_]) -> dict[str, Float64]:
    """Return each measure of every class against every unit, float64 ``[K, d]``.

    Args:
        activations: Pooled activations, float32 ``[N, d]``.
        shown: Whether an image has the label of a class, ``[N, K]``.

    Returns:
        ``correlation`` (Pearson's, 0 for a unit that never moves), ``cosine`` (the same without centring), ``auprc``
        (average precision of the activation as a detector of the class), and ``f1``, ``iou``, ``precision`` and
        ``recall`` of the class and the images on which the unit is active: the ``ACTIVE_SHARE`` strongest, those at the
        unit's minimum never.
    """
    values, labelled = activations.astype(np.float64), shown.astype(np.float64)
    active = _active(activations).astype(np.float64)
    both, images, strong = labelled.T @ active, labelled.sum(axis=0)[:, None], active.sum(axis=0)[None, :]
    return {
        "correlation": _cosine(values - values.mean(axis=0), labelled - labelled.mean(axis=0)),
        "cosine": _cosine(values, labelled),
        "auprc": _average_precision(activations, shown),
        "f1": 2 * both / np.maximum(images + strong, 1),
        "iou": both / np.maximum(images + strong - both, 1),
        "precision": both / np.maximum(strong, 1),
        "recall": both / np.maximum(images, 1),
    }


def sanity(activations: Float32, labels: Int64, concepts: Int64, seed: int = 0) -> dict[str, Sanity]:
    """Test whether the measures notice wrong labels.

    A measure that says how good a label is must fall when half of a class's images, chosen at random, lose the label
    (*missing*), and when as many images of other classes as it has are given it (*extra*).

    Args:
        activations: Pooled activations, float32 ``[N, d]``.
        labels: Class of each image, int64 ``[N]``.
        concepts: Class that each unit stands for, int64 ``[d]``; one that has images.
        seed: Of the choice.

    Returns:
        By measure, for which share of the units it falls.
    """
    shown = np.eye(int(max(labels.max(), concepts.max())) + 1, dtype=bool)[labels]
    before, (fewer, more) = measure(activations, shown), _spoiled(shown, seed)
    missing, extra = measure(activations, fewer), measure(activations, more)
    units = np.arange(activations.shape[1])

    def falls(spoiled: dict[str, Float64], name: str) -> float:
        return 100.0 * float((spoiled[name] < before[name] - 1e-9)[concepts, units].mean())

    return {name: Sanity(missing=falls(missing, name), extra=falls(extra, name)) for name in TESTED}


def _spoiled(shown: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The labels without half of every class's images, and with as many others as a class has."""
    generator, fewer, more = np.random.default_rng(seed), shown.copy(), shown.copy()
    for label in range(shown.shape[1]):
        own, others = np.flatnonzero(shown[:, label]), np.flatnonzero(~shown[:, label])
        fewer[generator.permutation(own)[: len(own) // 2], label] = False
        more[generator.permutation(others)[: len(own)], label] = True
    return fewer, more


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


def _cosine(activations: Float64, shown: Float64) -> Float64:
    norms = np.linalg.norm(shown, axis=0)[:, None] * np.linalg.norm(activations, axis=0)[None, :]
    cosine: Float64 = np.where(norms > 1e-12, (shown.T @ activations) / np.maximum(norms, 1e-12), 0.0)
    return cosine


def _average_precision(activations: Float32, shown: NDArray[np.bool_]) -> Float64:
    """Mean over a class's images of the precision among the images at least as active as that one; ties go together."""
    at_least = rankdata(-activations, method="max", axis=0)
    found = np.zeros((shown.shape[1], activations.shape[1]))
    for label in np.flatnonzero(shown.any(axis=0)):
        own = activations[shown[:, label]]
        positives = (own[None] >= own[:, None]).sum(axis=1)
        found[label] = (positives / at_least[shown[:, label]]).mean(axis=0)
    return found
