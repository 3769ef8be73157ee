"""Means, specificity, intervals over queries, and how the default localisation stands among the methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.intervention import Change
from miclip.evaluation.methods import DEFAULT, WHITE_BOX

Float64 = NDArray[np.float64]

RESAMPLES = 1000
SMALLEST_CHANGE = 1.0
"""Points below which a target's change counts as this much: specificity of nothing is not infinite."""


def summarise(seeds: Sequence[Sequence[Change]]) -> dict[str, Any]:
    """Summarise one intervention.

    Args:
        seeds: Per seed, the changes of the same queries in the same order.

    Returns:
        ``target`` and ``others`` (mean changes in points), ``specificity`` (1 is: nothing else moved) and ``weighted``
        (target × specificity, the latter at least 0, in points), each with its 95 % ``…_interval``. Queries, not views
        or seeds, are the sample: a query's changes are averaged over seeds, and queries are resampled.
    """
    figures: dict[str, Callable[[Float64], Float64]] = {
        "target": lambda means: means[..., 0],
        "others": lambda means: means[..., 1],
        "specificity": _specificity,
        "weighted": _weighted,
    }
    means, resampled = _means(seeds)
    return {key: value for name, figure in figures.items() for key, value in _figure(name, figure(means),
            figure(resampled)).items()}  # fmt: skip


def verdict(methods: Mapping[str, Sequence[Sequence[Change]]], sign: int) -> dict[str, Any]:
    """Say how miclip's localisation stands among the methods of one kind of query, by weighted change.

    Args:
        methods: Changes per seed by method, of the same queries in the same order; with ``attribution`` and ``oracle``.
        sign: 1 where a gain is wanted (×2), -1 where a loss is (×0).

    Returns:
        ``share_of_oracle`` (1 is: as much as the oracle), ``best_baseline`` (its name; the white boxes are none) and
        ``lead`` over it in points, each figure with its 95 % ``…_interval`` over queries, paired.
    """
    found = {name: _means(seeds) for name, seeds in methods.items()}
    gains = {name: sign * _weighted(means) for name, (means, _) in found.items()}
    resampled = {name: sign * _weighted(means) for name, (_, means) in found.items()}
    best = max((name for name in gains if name not in (DEFAULT, *WHITE_BOX)), key=lambda name: float(gains[name]))
    ratio = (_share(gains[DEFAULT], gains["oracle"]), _share(resampled[DEFAULT], resampled["oracle"]))
    lead = (gains[DEFAULT] - gains[best], resampled[DEFAULT] - resampled[best])
    return {**_figure("share_of_oracle", *ratio), "best_baseline": best, **_figure("lead", *lead)}


def _means(seeds: Sequence[Sequence[Change]]) -> tuple[Float64, Float64]:
    """Mean over queries of target, others and others' magnitude ``[3]``, and of resampled queries ``[R, 3]``."""
    columns = np.array([[(c.target, c.others, c.others_absolute) for c in seed] for seed in seeds]).mean(axis=0)
    rows = np.random.default_rng(0).integers(len(columns), size=(RESAMPLES, len(columns)))
    return columns.mean(axis=0), columns[rows].mean(axis=1)


def _figure(name: str, value: Float64, resampled: Float64) -> dict[str, Any]:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {name: float(value), f"{name}_interval": [float(low), float(high)]}


def _specificity(means: Float64) -> Float64:
    """``1 - mean_{c≠t} |Δacc_c| / max(|Δacc_t|, ε)``, of the means over queries."""
    return 1.0 - means[..., 2] / np.maximum(np.abs(means[..., 0]), SMALLEST_CHANGE)


def _weighted(means: Float64) -> Float64:
    return means[..., 0] * np.maximum(_specificity(means), 0.0)


def _share(ours: Float64, oracle: Float64) -> Float64:
    """An oracle that does nothing, or harm, is no measure: its share counts as that of a hundredth of a point."""
    return ours / np.maximum(oracle, 0.01)
