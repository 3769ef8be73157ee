"""Interventions and carried attribution with more and with fewer units a query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.carrying import carried_shares
from miclip.evaluation.intervention import Laboratory, intervene
from miclip.evaluation.judge import Judge
from miclip.evaluation.measures import Curves
from miclip.evaluation.methods import LayerData, rank_units
from miclip.evaluation.queries import Query

METHODS = ("random", "mean_activation", "clip_dissect", "output_only", "filter", "attribution", "oracle")
"""Methods that curves are drawn of."""


def curves(
    laboratory: Laboratory,
    data: LayerData,
    judge: Judge,
    queries: Sequence[Query],
    texts: NDArray[np.float32],
    sizes: Sequence[int],
) -> Curves:
    """Measure a few methods with several numbers of units.

    Args:
        laboratory: Intervenes on the layer.
        data: The layer, as methods are given it.
        judge: The layer on the judging images.
        queries: What is asked.
        texts: The queries' CLIP text embeddings, float32 ``[Q, D]``.
        sizes: Numbers of units a query; those beyond the layer's units are left out.
    """
    fitting = tuple(size for size in sizes if size <= data.probe.units)
    ranked = rank_units(data, queries, texts, max(fitting))
    chosen = {name: ranked[name] for name in METHODS if name in ranked}
    targets = [query.classes for query in queries]
    carried, changes = {}, {}
    for name, units in chosen.items():
        shares = [carried_shares(judge.effects, queries, units, size) for size in fitting]
        carried[name] = tuple(float(np.nanmean(share)) for share in shares)
        changes[name] = [intervene(laboratory, units, targets, size) for size in fitting]
    doubled, removed = (
        {name: tuple(float(np.mean([c.target for c in one[scale]])) for one in some) for name, some in changes.items()}
        for scale in ("scale_2", "scale_0")
    )
    return Curves(units=fitting, queries=len(queries), carried=carried, doubled=doubled, removed=removed)
