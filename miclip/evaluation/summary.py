"""Means, specificity, intervals over queries, and how the default localisation stands among the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.figures import ByScale, Figure
from miclip.evaluation.intervention import Change
from miclip.evaluation.measures import Effect, Verdict
from miclip.evaluation.methods import DEFAULT, named

Float64 = NDArray[np.float64]

SIGNS = {"scale_2": 1, "scale_0": -1}
"""What is wanted of each intervention: a gain or a loss."""
ORACLE = "oracle"
"""The method that is the measure of what can be reached."""
RESAMPLES = 1000
SMALLEST_CHANGE = 1.0
"""Points below which a target's change counts as this much: specificity of nothing is not infinite."""


def summarise(seeds: Sequence[Sequence[Change]], sign: int) -> Effect:
    """Summarise one intervention.

    Queries, not views or seeds, are the sample: a query's changes are averaged over seeds, and queries are resampled.

    Args:
        seeds: Per seed, the changes of the same queries in the same order.
        sign: 1 where a gain is wanted (×2), -1 where a loss is (×0).
    """
    means, resampled = _means(seeds)
    return Effect(
        target=_figure(means[..., 0], resampled[..., 0]),
        others=_figure(means[..., 1], resampled[..., 1]),
        side_effect=_figure(_side_effect(means), _side_effect(resampled)),
        noise=float(means[..., 3]),
        specificity=_figure(_specificity(means), _specificity(resampled)),
        weighted=_figure(_weighted(means, sign), _weighted(resampled, sign)),
    )


def verdict(methods: Mapping[str, Sequence[Sequence[Change]]], sign: int) -> Verdict:
    """Say how miclip's localisation stands among the methods of one kind of query, by weighted change.

    Args:
        methods: Changes per seed by method, of the same queries in the same order; with miclip's default and at least
            one method to beat.
        sign: 1 where a gain is wanted (×2), -1 where a loss is (×0).

    Returns:
        The verdict; its intervals are over queries, paired.
    """
    means = {name: _means(seeds) for name, seeds in methods.items()}
    gains = {name: sign * _weighted(over_all, sign) for name, (over_all, _) in means.items()}
    resampled = {name: sign * _weighted(rows, sign) for name, (_, rows) in means.items()}
    others = [name for name in gains if name != DEFAULT and name not in named("whitebox")]
    best = max(others, key=lambda name: float(gains[name]))
    return Verdict(
        share_of_oracle=_share_of_oracle(gains, resampled),
        best_baseline=best,
        lead=_figure(gains[DEFAULT] - gains[best], resampled[DEFAULT] - resampled[best]),
    )


def verdicts(methods: Mapping[str, Mapping[str, Sequence[Sequence[Change]]]]) -> ByScale[Verdict]:
    """Return the verdicts of both interventions.

    Args:
        methods: Changes per seed by scale and method.
    """
    return ByScale[Verdict](**{scale: verdict(changes, SIGNS[scale]) for scale, changes in methods.items()})


def _share_of_oracle(gains: Mapping[str, Float64], resampled: Mapping[str, Float64]) -> Figure | None:
    if ORACLE not in gains:
        return None
    return _figure(_share(gains[DEFAULT], gains[ORACLE]), _share(resampled[DEFAULT], resampled[ORACLE]))


def _means(seeds: Sequence[Sequence[Change]]) -> tuple[Float64, Float64]:
    """Mean over queries of target, others, others' magnitude and its noise ``[4]``, and of resamples ``[R, 4]``."""
    changes = [[(c.target, c.others, c.others_absolute, c.noise) for c in seed] for seed in seeds]
    columns = np.array(changes).mean(axis=0)
    rows = np.random.default_rng(0).integers(len(columns), size=(RESAMPLES, len(columns)))
    return columns.mean(axis=0), columns[rows].mean(axis=1)


def _figure(value: Float64, resampled: Float64) -> Figure:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Figure(value=float(value), low=float(low), high=float(high))


def _side_effect(means: Float64) -> Float64:
    """Magnitude of the others' changes without noise; never less than the magnitude of their mean change."""
    return np.maximum(means[..., 2] - means[..., 3], np.abs(means[..., 1]))


def _specificity(means: Float64) -> Float64:
    """``1 - side effect / max(|Δacc_t|, ε)``, of the means over queries."""
    return 1.0 - _side_effect(means) / np.maximum(np.abs(means[..., 0]), SMALLEST_CHANGE)


def _weighted(means: Float64, sign: int) -> Float64:
    """Target less the side effect: target × specificity where the target moves as wanted, and worse where it does not.

    It is not clipped, so a method that does more harm than good stands below one that does nothing.
    """
    weighted: Float64 = means[..., 0] - sign * _side_effect(means)
    return weighted


def _share(ours: Float64, oracle: Float64) -> Float64:
    """An oracle that does nothing, or harm, is no measure: its share counts as that of a hundredth of a point."""
    return ours / np.maximum(oracle, 0.01)
