"""Means, specificity and intervals over classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.intervention import Change

Float64 = NDArray[np.float64]

RESAMPLES = 1000
SMALLEST_CHANGE = 1.0
"""Points below which a target's change counts as this much: specificity of nothing is not infinite."""


def summarise(seeds: Sequence[Sequence[Change]]) -> dict[str, Any]:
    """Summarise one intervention.

    Args:
        seeds: Per seed, the changes of the same classes in the same order.

    Returns:
        ``target`` and ``others`` (mean changes in points) and ``specificity`` (1 is: nothing else moved), each with its
        95 % ``…_interval``. Classes, not views or seeds, are the sample: a class's changes are averaged over seeds, and
        classes are resampled.
    """
    columns = np.array([[(c.target, c.others, c.others_absolute) for c in seed] for seed in seeds]).mean(axis=0)
    rows = np.random.default_rng(0).integers(len(columns), size=(RESAMPLES, len(columns)))
    resampled = columns[rows].mean(axis=1)
    found: dict[str, Any] = {}
    figures: dict[str, Callable[[Float64], Float64]] = {
        "target": lambda means: means[..., 0],
        "others": lambda means: means[..., 1],
        "specificity": _specificity,
    }
    for name, figure in figures.items():
        low, high = np.percentile(figure(resampled), [2.5, 97.5])
        found[name] = float(figure(columns.mean(axis=0)))
        found[f"{name}_interval"] = [float(low), float(high)]
    return found


def _specificity(means: Float64) -> Float64:
    """``1 - mean_{c≠t} |Δacc_c| / max(|Δacc_t|, ε)``, of the means over classes."""
    return 1.0 - means[..., 2] / np.maximum(np.abs(means[..., 0]), SMALLEST_CHANGE)
