"""Units with what they mean and the images to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from miclip.errors import InvalidInput
from miclip.evaluation.baselines import class_means
from miclip.pictures.projection import sureness
from miclip.pictures.spatial import UnitMap, heat_range, overlay, unit_maps
from miclip.report.exhibit import Exhibit
from miclip.report.markup import Html, el
from miclip.report.thumbnails import thumbnail
from miclip.report.words import plain_number, signed
from miclip.retrieval.results import Description, UnitRecord

SURE, SILENT = 9, 3
IMAGES, MAPS, DRIVEN = 12, 4, 3


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


def gallery(exhibit: Exhibit, layer: str) -> Html:
    """Return the cards of some units of a layer, chosen by rule and not by looks."""
    cards = [_card(shown) for shown in collect(exhibit, layer)]
    return el("div", cards, class_="gallery")


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


def _card(shown: Shown) -> Html:
    unit = shown.description
    best, *rest = unit.concepts
    name = f"{unit.layer}/{unit.unit}"
    label = el("s" if unit.abstained else "b", best.concept, class_="label")
    badge = el("span", "abstains", class_="badge") if unit.abstained else None
    tops = _tops(name, shown)
    others = "then " + ", ".join(concept.concept for concept in rest)
    return el(
        "article",
        el("header", label, badge),
        el("p", el("code", name), class_="facts"),
        el("p", _facts(unit), class_="facts apart"),
        el("p", others, class_="facts") if rest else None,
        el("p", "drives most: ", _driven_words(shown), class_="facts"),
        el("div", tops[:MAPS], [_map(name, over) for over in shown.maps], class_="maps"),
        el("div", tops[MAPS:], class_="tops"),
        class_="unit silent" if unit.abstained else "unit",
    )


def _facts(unit: Description) -> list[Html]:
    """The evidence for the label, as far as it was measured; a fact does not break in the middle."""
    best, stability = unit.concepts[0], unit.stability
    facts = [
        f"cosine {plain_number(best.score)}",
        f"causal score {signed(best.causal_score, 2)}",
        f"margin {plain_number(unit.margin)}",
        f"null {unit.null_percentile:.0f} %",
        None if unit.contrast is None else f"contrast {plain_number(unit.contrast, 1)}",
        None if stability is None else f"stability {100 * stability:.0f} %",
    ]
    return [el("span", fact) for fact in facts if fact]


def _driven_words(shown: Shown) -> list[object]:
    best = shown.description.concepts[0].concept
    words: list[object] = []
    for place, label in enumerate(shown.drives):
        words += [", " if place else None, el("mark", label) if label == best else label]
    return words


def _tops(name: str, shown: Shown) -> list[Html]:
    return [
        thumbnail(image, f"{top.image}, activation {plain_number(top.value)} of {name}, rank {place}")
        for place, (image, top) in enumerate(zip(shown.images, shown.record.top_images, strict=False), 1)
    ]


def _map(name: str, found: UnitMap) -> Html:
    low, high = heat_range(found.activation)
    rows, columns = found.activation.shape
    row, column = divmod(int(found.activation.argmax()), columns)
    where = f"strongest at row {row + 1} of {rows}, column {column + 1} of {columns}"
    alt = f"Map of {name} over an image predicted to be {found.predicted}: {where}"
    caption = el("figcaption", el("span", plain_number(low, 1)), el("i", class_="heat"),
                 el("span", plain_number(high, 1)))  # fmt: skip
    return el("figure", thumbnail(overlay(found), alt), caption)
