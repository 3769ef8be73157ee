"""How the units of a layer lie together: their embeddings in the plane, in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.coordinates import SMALLEST, plane
from miclip.errors import InvalidInput
from miclip.retrieval.results import Description
from miclip.retrieval.search import AtlasSearcher

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """Units in the plane.

    Attributes:
        layer: Their layer.
        points: Coordinates, float32 ``[n, 2]``; distances beyond the neighbourhood mean little.
        descriptions: What each unit means.
        groups: Group of each unit's label; empty for a unit that abstains.
        names: The groups there are, largest first.
    """

    layer: str
    points: Float32
    descriptions: tuple[Description, ...]
    groups: tuple[str, ...]
    names: tuple[str, ...]


def project_units(searcher: AtlasSearcher, layer: str, groups: Mapping[str, str]) -> Projection:
    """Project all units of a layer that are not dead: where its atlas puts them, or where an alignment now would.

    Args:
        searcher: Of the model's atlas.
        layer: The layer.
        groups: Group by label, of every label.

    Raises:
        NotAligned: the layer is not in the atlas.
        InvalidInput: fewer than eight units are alive.
    """
    known = searcher.atlas.layer(layer)
    embeddings = known.embedding()
    alive = np.flatnonzero(np.abs(embeddings).sum(axis=1) > 0)
    if len(alive) < SMALLEST:
        text = f"LAYER: {layer} has {len(alive)} units that live; a t-SNE needs at least {SMALLEST}."
        raise InvalidInput(text, field="LAYER", allowed=f"{SMALLEST} units or more")
    described = searcher.describe(layer, alive.tolist(), searcher.labels, top_k=2)
    mine = tuple("" if unit.abstained else groups[unit.concepts[0].concept] for unit in described)
    names = sorted(set(mine) - {""}, key=lambda name: (-mine.count(name), name))
    points = plane(embeddings) if known.coordinates is None else np.asarray(known.coordinates, np.float32)
    return Projection(layer, points[alive], tuple(described), mine, tuple(names))


def sureness(unit: Description) -> float:
    """Return what orders labels by how far to trust them: the contrast where it was measured, else the cosine."""
    return unit.concepts[0].score if unit.contrast is None else unit.contrast


def label_clusters(labels: Sequence[str], embeddings: Float32, count: int = 8) -> dict[str, str]:
    """Group labels by k-means of their text embeddings; a group is named by the label nearest to its centre.

    Args:
        labels: Texts.
        embeddings: Their centred, normalised embeddings ``[K, D]``.
        count: Groups, at most as many as there are labels.
    """
    from sklearn.cluster import KMeans

    means = KMeans(min(count, len(labels)), n_init=4, random_state=0).fit(embeddings)
    nearest = [labels[int(np.square(embeddings - centre).sum(axis=1).argmin())] for centre in means.cluster_centers_]
    return {label: f"like {nearest[group]!r}" for label, group in zip(labels, means.labels_, strict=True)}
