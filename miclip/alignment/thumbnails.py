"""Thumbnails of the probe images that units need, the most needed first, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.probe import ProbeSet
from miclip.alignment.webp import encode_webp, pack, shrink
from miclip.atlas import PicturesEntry
from miclip.settings import Settings

_QUALITY = 75


def needed_rows(top_images: Iterable[NDArray[np.int32]], views: int) -> NDArray[np.int64]:
    """Return the atlas rows that units need, the most needed first.

    A row counts 1/k for every unit that it is the k-th strongest image of.

    Args:
        top_images: Of every layer ``[units, 16]``, -1 where there are fewer.
        views: Number of rows N.
    """
    weights = np.zeros(views)
    for rows in top_images:
        worth = np.broadcast_to(1 / (1 + np.arange(rows.shape[1])), rows.shape)
        there = rows >= 0
        weights += np.bincount(rows[there], weights=worth[there], minlength=views)
    order = np.argsort(-weights, kind="stable")
    return order[weights[order] > 0]


def thumbnail_pictures(
    probe: ProbeSet,
    rows: NDArray[np.int64],
    needed: NDArray[np.int64],
    config: Settings,
    report: Callable[[int, int], None],
) -> tuple[PicturesEntry, dict[str, NDArray[Any]]] | None:
    """Return the manifest's entry and the tensors of the thumbnails; None where not one fits.

    Args:
        probe: The images.
        rows: Row of the probe set of every row of the atlas.
        needed: Rows of the atlas, the most needed first.
        config: ``thumbnail_edge`` and ``thumbnail_bytes``.
        report: Called with the bytes made and the budget.
    """
    made: dict[int, bytes] = {}
    size = 0
    for row in map(int, needed):
        place = int(rows[row])
        (image,) = probe.load(place, place + 1)
        picture = encode_webp(shrink(image, config.thumbnail_edge, longest=True), _QUALITY)
        if size + len(picture) > config.thumbnail_bytes:
            break
        made[row] = picture
        size += len(picture)
        report(len(made), len(needed))
    if not made:
        return None
    kept = sorted(made)
    entry = PicturesEntry(pictures=len(kept), bytes=size, edge=config.thumbnail_edge, left_out=len(needed) - len(kept))
    return entry, {"rows": np.array(kept, np.int32), **pack([made[row] for row in kept])}
