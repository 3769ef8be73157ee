"""Units with what they mean and the images to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from miclip.errors import InvalidInput
from miclip.evaluation.methods import class_means
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.thumbnails import Thumbnail, thumbnail
from miclip.evaluation.report.words import plain_number
from miclip.pictures.projection import sureness
from miclip.pictures.spatial import UnitMap, heat_range, overlay, unit_maps
from miclip.retrieval.results import Description, UnitRecord

SURE, SILENT = 9, 3
IMAGES, MAPS, DRIVEN = 12, 4, 3


@dataclass(frozen=True)
class HeatMap:
    """A map over its image, and the activations that its coldest and its hottest colour stand for."""

    picture: Thumbnail
    low: float
    high: float


@dataclass(frozen=True)
class Shown:
    """A unit of the gallery.

    Attributes:
        description: What it means.
        record: Its statistics and top images.
        images: The top images.
        maps: The unit over the first of them; empty for a layer without positions.
        drives: Labels that it drives most, by class-mean attribution: what the label should be about.
    """

    description: Description
    record: UnitRecord
    images: Sequence[Tensor]
    maps: Sequence[UnitMap]
    drives: Sequence[str]

    @property
    def name(self) -> str:
        """The unit's name."""
        return f"{self.description.layer}/{self.description.unit}"

    @property
    def label(self) -> str:
        """The best concept, whether or not it is claimed."""
        return self.description.concepts[0].concept

    @property
    def runners_up(self) -> str:
        """The concepts behind the best."""
        return ", ".join(concept.concept for concept in self.description.concepts[1:])

    @property
    def thumbnails(self) -> list[Thumbnail]:
        """The top images, small."""
        tops = zip(self.images, self.record.top_images, strict=False)
        return [
            thumbnail(image, f"{top.image}, activation {plain_number(top.value)} of {self.name}, rank {place}")
            for place, (image, top) in enumerate(tops, 1)
        ]

    @property
    def heat_maps(self) -> list[HeatMap]:
        """The maps, small."""
        return [_heat_map(self.name, unit_map) for unit_map in self.maps]


def collect(exhibit: Exhibit, layer: str) -> list[Shown]:
    """Gather what the gallery of a layer shows."""
    searcher = exhibit.searcher
    alive = np.flatnonzero(np.asarray(searcher.atlas.layer(layer).std) > 0).tolist()
    chosen = choose(searcher.describe(layer, alive, searcher.labels, top_k=3))
    records = [searcher.unit_record(layer, unit.unit, neighbours=1) for unit in chosen]
    images = [exhibit.probe.top(layer, unit.unit, IMAGES) for unit in chosen]
    maps = _maps(exhibit, layer, [(unit.unit, top[:MAPS]) for unit, top in zip(chosen, images, strict=True)])
    driven = _driven(exhibit, layer)
    return [
        Shown(unit, record, top, over, [exhibit.model.labels[k] for k in driven[unit.unit]])
        for unit, record, top, over in zip(chosen, records, images, maps, strict=True)
    ]


def choose(units: Sequence[Description]) -> list[Description]:
    """Return units at even steps from the surest label to the least sure, then some that abstain."""
    ranked = sorted(units, key=sureness, reverse=True)
    sure = [unit for unit in ranked if not unit.abstained]
    silent = [unit for unit in ranked if unit.abstained]
    return [*_even(sure, SURE), *_even(silent, SILENT)]


def _even(units: list[Description], most: int) -> list[Description]:
    kept = min(most, len(units))
    return [units[round(at * (len(units) - 1) / max(kept - 1, 1))] for at in range(kept)]


def _maps(exhibit: Exhibit, layer: str, wanted: Sequence[tuple[int, Sequence[Tensor]]]) -> list[list[UnitMap]]:
    """One pass for all: every image with its own unit."""
    pairs = [(image, unit) for unit, top in wanted for image in top]
    try:
        found = iter(unit_maps(exhibit.model, [image for image, _ in pairs], layer, [unit for _, unit in pairs]))
    except InvalidInput:  # the layer has no positions
        return [[] for _ in wanted]
    return [[next(found) for _ in top] for _, top in wanted]


def _driven(exhibit: Exhibit, layer: str) -> NDArray[np.int64]:
    """The labels that each unit drives most, int64 ``[d, DRIVEN]``."""
    atlas = exhibit.searcher.atlas
    attributions = np.asarray(atlas.layer(layer).attributions, np.float32)
    means = class_means(attributions, np.asarray(atlas.predicted, np.int64), len(exhibit.model.labels))
    return np.argsort(-means, axis=0, kind="stable")[:DRIVEN].T.astype(np.int64)


def _heat_map(name: str, unit_map: UnitMap) -> HeatMap:
    low, high = heat_range(unit_map.activation)
    rows, columns = unit_map.activation.shape
    row, column = divmod(int(unit_map.activation.argmax()), columns)
    where = f"strongest at row {row + 1} of {rows}, column {column + 1} of {columns}"
    alt = f"Map of {name} over an image predicted to be {unit_map.predicted}: {where}"
    return HeatMap(thumbnail(overlay(unit_map), alt), low, high)
