"""Controls, which must do nothing: random units, and the units of another query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods import searches
from miclip.evaluation.methods._data import LayerData
from miclip.evaluation.methods._method import Asked, Method
from miclip.evaluation.methods._ranks import ranking

Int64 = NDArray[np.int64]


def random_scores(classes: int, units: int, seed: int) -> NDArray[np.float32]:
    """Return noise, float32 ``[K, d]``."""
    return np.random.default_rng(seed).random((classes, units), np.float32)


def _random(data: LayerData, asked: Asked) -> Int64:
    return ranking(random_scores(len(asked.queries), data.probe.units, data.seed))[:, : asked.top]


def _shuffled(data: LayerData, asked: Asked) -> Int64:
    return searches.searched(data, asked, "attribution")[_others(len(asked.queries), data.seed)]


def _others(count: int, seed: int) -> Int64:
    """For each of ``count`` queries another one: the next on a random round through all."""
    order, others = np.random.default_rng(seed).permutation(count), np.empty(count, np.int64)
    others[order] = np.roll(order, 1)
    return others


METHODS = (
    Method("random", "random units", "nothing", order=10, role="control", rank=_random, by_text_alone=True),
    Method("shuffled", "another query's units", "the text of another query", order=20, role="control", rank=_shuffled),
)
