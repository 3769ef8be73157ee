"""The units of a layer in the plane, in the colours of what they mean."""

from __future__ import annotations

from miclip.evaluation.report.charts import Point, scatter, shape
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.markup import Html, el
from miclip.evaluation.report.words import plain_number
from miclip.pictures.colours import group_colour
from miclip.pictures.projection import Projection, project_units, sureness

_NAMED = 24


def plane(exhibit: Exhibit, layer: str) -> Html:
    """Return the t-SNE of a layer's unit embeddings with its legend; raises InvalidInput for too few units."""
    found = project_units(exhibit.searcher, layer, exhibit.groups)
    colours = [group_colour(place) for place in range(len(found.names))]
    drawn = scatter(f"Units of {layer} by meaning", _points(found), colours)
    return el("figure", drawn, el("figcaption", _legend(found, colours)), class_="plane")


def _points(found: Projection) -> list[Point]:
    sure = [place for place, group in enumerate(found.groups) if group]
    named = set(sorted(sure, key=lambda place: -sureness(found.descriptions[place]))[:_NAMED])
    return [
        Point(float(x), float(y), found.names.index(group) if group else None, _title(found, place),
              found.descriptions[place].concepts[0].concept if place in named else "")
        for place, ((x, y), group) in enumerate(zip(found.points, found.groups, strict=True))
    ]  # fmt: skip


def _title(found: Projection, place: int) -> str:
    unit = found.descriptions[place]
    best = unit.concepts[0]
    label = f"({best.concept}) abstains" if unit.abstained else best.concept
    return f"{unit.layer}/{unit.unit}: {label}, score {plain_number(best.score)}"


def _legend(found: Projection, colours: list[str]) -> list[Html]:
    entries = [
        el("span", el("svg", shape(place, 8, 8, colours[place]), viewBox="0 0 16 16", aria_hidden="true"),
           f"{name} ({found.groups.count(name)})")
        for place, name in enumerate(found.names)
    ]  # fmt: skip
    silent = found.groups.count("")
    if silent:
        dot = el("svg", el("circle", cx=8, cy=8, r=2.5, class_="silent"), viewBox="0 0 16 16", aria_hidden="true")
        entries.append(el("span", dot, f"abstains ({silent})"))
    return entries
