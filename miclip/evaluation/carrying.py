"""How much of a query's attribution the units found for it carry, on images that nothing saw. No unit is edited.

The attribution of a query is the mean, over the classes that it covers, of the class-mean attributions of the judging
images. Five units carry the sum of theirs; what they carry is given in percent of the sum of the best five.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.figures import Figure
from miclip.evaluation.measures import Carried
from miclip.evaluation.methods import DEFAULT, named
from miclip.evaluation.queries import Query, coverage

Float64 = NDArray[np.float64]
RESAMPLES = 1000


def carried_shares(
    effects: NDArray[np.float32], queries: Sequence[Query], units: NDArray[np.int64], top: int
) -> Float64:
    """Return what the first ``top`` units of every query carry, in percent, float64 ``[Q]``.

    NaN for a query whose classes no unit drives here: the model predicts none of them.

    Args:
        effects: Class-mean attributions of the judging images, float32 ``[K, d]``.
        queries: The queries, Q of them.
        units: Units found, best first, int64 ``[Q, ≥ top]``.
        top: Units that count.
    """
    wanted = coverage(queries, len(effects)).astype(np.float64) @ effects
    best = -np.sort(-wanted, axis=1)[:, :top].sum(axis=1)
    found = np.take_along_axis(wanted, units[:, :top], axis=1).sum(axis=1)
    shares: Float64 = np.where(best > 0, 100.0 * found / np.where(best > 0, best, 1.0), np.nan)
    return shares


def summarise_carried(methods: Mapping[str, Sequence[Float64]], trusted: Sequence[NDArray[np.bool_]]) -> Carried | None:
    """Summarise what the methods' units carry for one kind of query.

    Args:
        methods: By method and seed, what ``carried_shares`` gave for the same queries, float64 ``[Q]``.
        trusted: By seed, which queries miclip does not call doubtful, ``[Q]``.

    Returns:
        Means over queries; a query's is its mean over the seeds. None where no query can be judged.
    """
    means = {name: np.mean(np.stack(seeds), axis=0) for name, seeds in methods.items()}
    judged = ~np.isnan(next(iter(means.values())))
    if not judged.any():
        return None
    vouched = np.mean(np.stack(trusted), axis=0) > 0.5
    others = [name for name in means if name != DEFAULT and name not in named("whitebox")]
    return Carried(
        queries=int(judged.sum()),
        methods={name: _figure(values[judged]) for name, values in means.items()},
        leads={name: _figure((means[DEFAULT] - means[name])[judged]) for name in others},
        trusted_share=100.0 * float(vouched[judged].mean()),
        trusted=_part(means[DEFAULT], judged & vouched),
        doubtful=_part(means[DEFAULT], judged & ~vouched),
    )


def _part(values: Float64, rows: NDArray[np.bool_]) -> Figure | None:
    return _figure(values[rows]) if rows.any() else None


def _figure(values: Float64) -> Figure:
    rows = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[rows].mean(axis=1), [2.5, 97.5])
    return Figure(value=float(values.mean()), low=float(low), high=float(high))
