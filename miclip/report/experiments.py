"""Concepts turned up and removed before the reader's eyes: query, units, accuracy before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from miclip.evaluation.intervention import Change, Laboratory
from miclip.evaluation.queries import Query, class_names, spread
from miclip.report.exhibit import Exhibit
from miclip.report.markup import Html, el
from miclip.report.thumbnails import thumbnail
from miclip.report.words import kind_words, signed
from miclip.retrieval.results import LocatedUnit

UNITS = 5
OTHER_VIEWS = 1
_LONGEST = 14  # characters of a unit's name that fit under its picture
_COLUMNS = ("query", "units, strongest first", "accuracy: as it is, doubled, removed", "others ×2", "others ×0")
_EACH = {"names": 3, "synonyms": 2, "keywords": 1, "categories": 2}
"""Examples by kind of query."""


@dataclass(frozen=True)
class Example:
    """One query, its units, and what scaling them does.

    Attributes:
        kind: Kind of the query.
        query: The text, and the classes that judge it.
        units: Strongest units.
        before: Accuracy of the classes without an edit, in percent.
        doubled: Changes under ×2, in points.
        removed: Changes under ×0, in points.
    """

    kind: str
    query: Query
    units: Sequence[LocatedUnit]
    before: float
    doubled: Change
    removed: Change


def experiments(exhibit: Exhibit, layer: str) -> list[Example]:
    """Localize some queries, spread evenly over their lists, and intervene on the held-out images."""
    model, labels = exhibit.model, exhibit.labels
    images = torch.stack([model.preprocess(image) for image in exhibit.held_out.load(0, len(exhibit.held_out.names))])
    predicted = torch.cat([model.forward(part).logits.argmax(dim=1) for part in images.split(128)])
    laboratory = Laboratory(model, layer, images, labels, OTHER_VIEWS)
    asked = chosen(exhibit.queries, model.labels)
    texts = exhibit.clip.embed_texts([query.text for _, query in asked])
    found = exhibit.searcher.localize(texts, [layer], top_k=UNITS)
    examples = []
    for (kind, query), localization in zip(asked, found, strict=True):
        own = torch.isin(labels, torch.tensor(query.classes))
        before = 100 * (predicted == labels)[own].float().mean().item()
        units = [unit.unit for unit in localization.units]
        doubled, removed = (laboratory.change(query.classes, units, scale) for scale in (2.0, 0.0))
        examples.append(Example(kind, query, localization.units, before, doubled, removed))
    return examples


def chosen(queries: Mapping[str, Sequence[Query]], labels: Sequence[str]) -> list[tuple[str, Query]]:
    """Return a few queries of each kind, by rule and not by outcome."""
    kinds = {"names": class_names(labels), **queries}
    return [(kind, query) for kind, some in kinds.items() if some for query in spread(some, _EACH.get(kind, 1))]


def example_table(exhibit: Exhibit, examples: Sequence[Example]) -> Html:
    """Return the examples as a table."""
    head = el("tr", [el("th", name, scope="col") for name in _COLUMNS])
    body = [_row(exhibit, example) for example in examples]
    return el("div", el("table", el("thead", head), el("tbody", body), class_="examples"), class_="scroll")


def _row(exhibit: Exhibit, example: Example) -> Html:
    covered = [exhibit.model.labels[label] for label in example.query.classes]
    about = (
        kind_words(example.kind) if covered == [example.query.text] else f"{kind_words(example.kind)}: {_few(covered)}"
    )
    return el(
        "tr",
        el("th", f"“{example.query.text}”", el("small", about), scope="row"),
        el("td", el("div", [_unit(exhibit, unit) for unit in example.units], class_="chips")),
        el("td", [_level(name, value) for name, value in _levels(example)], class_="levels"),
        el("td", signed(example.doubled.others), class_="number"),
        el("td", signed(example.removed.others), class_="number"),
    )


def _levels(example: Example) -> list[tuple[str, float]]:
    before = example.before
    return [("as it is", before), ("×2", before + example.doubled.target), ("×0", before + example.removed.target)]


def _level(name: str, value: float) -> Html:
    bar = el("span", el("span", style=f"width:{value:.1f}%"), class_="level")
    return el("div", el("small", name), bar, el("span", f"{value:.0f} %"))


def _unit(exhibit: Exhibit, unit: LocatedUnit) -> Html:
    (description,) = exhibit.searcher.describe(unit.layer, [unit.unit], exhibit.searcher.labels, top_k=1)
    (image,) = exhibit.probe.top(unit.layer, unit.unit, 1)
    label = f"({description.concepts[0].concept})" if description.abstained else description.concepts[0].concept
    name = f"{unit.layer}/{unit.unit}"
    shown = thumbnail(image, f"Strongest image of {name}")
    short = name if len(name) <= _LONGEST else f"…/{unit.unit}"  # the heading names the dictionary
    caption = el("figcaption", el("code", short, title=name), el("br"), label, el("small", signed(unit.score, 2)))
    return el("figure", shown, caption, class_="chip")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
