"""The units of a layer in the plane, in the colours of what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miclip.evaluation.report.charts import Point, Scatter, corners, scatter
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.words import plain_number
from miclip.pictures.colours import group_colour
from miclip.pictures.projection import Projection, project_units, sureness

_NAMED = 24


@dataclass(frozen=True)
class Entry:
    """A line of the legend: colour and corners of the mark, as in ``charts.Mark``, and its text."""

    colour: str
    corners: str
    text: str


@dataclass(frozen=True)
class Plane:
    """The units of a layer by what they mean."""

    title: str
    plot: Scatter
    legend: Sequence[Entry]


def plane(exhibit: Exhibit, layer: str) -> Plane:
    """Return the t-SNE of a layer's unit embeddings with its legend; raises InvalidInput for too few units."""
    projection = project_units(exhibit.searcher, layer, exhibit.groups)
    colours = [group_colour(place) for place in range(len(projection.names))]
    plot = scatter(_points(projection), colours)
    return Plane(f"Units of {layer} by meaning", plot, _legend(projection, colours))


def _points(projection: Projection) -> list[Point]:
    sure = [place for place, group in enumerate(projection.groups) if group]
    named = set(sorted(sure, key=lambda place: -sureness(projection.descriptions[place]))[:_NAMED])
    return [
        Point(
            x=float(x),
            y=float(y),
            group=projection.names.index(group) if group else None,
            title=_title(projection, place),
            label=projection.descriptions[place].concepts[0].concept if place in named else "",
        )
        for place, ((x, y), group) in enumerate(zip(projection.points, projection.groups, strict=True))
    ]


def _title(projection: Projection, place: int) -> str:
    unit = projection.descriptions[place]
    best = unit.concepts[0]
    label = f"({best.concept}) abstains" if unit.abstained else best.concept
    return f"{unit.layer}/{unit.unit}: {label}, score {plain_number(best.score)}"


def _legend(projection: Projection, colours: Sequence[str]) -> list[Entry]:
    groups = projection.groups
    entries = [
        Entry(colours[place], corners(place, 8, 8), f"{name} ({groups.count(name)})")
        for place, name in enumerate(projection.names)
    ]
    silent = groups.count("")
    return [*entries, Entry("", "", f"abstains ({silent})")] if silent else entries
