"""Concepts turned up and removed before the reader's eyes: query, units, accuracy before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from miclip.evaluation.intervention import Change, Laboratory
from miclip.evaluation.queries import Query, class_names, spread
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.thumbnails import Thumbnail, thumbnail
from miclip.evaluation.report.words import few, kind_words
from miclip.retrieval.results import LocatedUnit

UNITS = 5
OTHER_VIEWS = 1
_LONGEST = 14  # characters of a unit's name that fit under its picture
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

    @property
    def levels(self) -> list[tuple[str, float]]:
        """Accuracy as it is, doubled and removed."""
        doubled, removed = self.before + self.doubled.target, self.before + self.removed.target
        return [("as it is", self.before), ("×2", doubled), ("×0", removed)]


@dataclass(frozen=True)
class Chip:
    """A unit of an example: its strongest image, its name in short and in full, its label, and its attribution."""

    picture: Thumbnail
    short: str
    name: str
    label: str
    score: float


@dataclass(frozen=True)
class Row:
    """A row of the table of examples: the example, what its query is about, and its units."""

    example: Example
    about: str
    chips: Sequence[Chip]


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


def rows(exhibit: Exhibit, examples: Sequence[Example]) -> list[Row]:
    """Return the rows of the table of examples."""
    return [
        Row(example, _about(exhibit, example), [_chip(exhibit, unit) for unit in example.units]) for example in examples
    ]


def _about(exhibit: Exhibit, example: Example) -> str:
    covered, kind = [exhibit.model.labels[label] for label in example.query.classes], kind_words(example.kind)
    return kind if covered == [example.query.text] else f"{kind}: {few(covered)}"


def _chip(exhibit: Exhibit, unit: LocatedUnit) -> Chip:
    (description,) = exhibit.searcher.describe(unit.layer, [unit.unit], exhibit.searcher.labels, top_k=1)
    (image,) = exhibit.probe.top(unit.layer, unit.unit, 1)
    label, name = description.concepts[0].concept, f"{unit.layer}/{unit.unit}"
    return Chip(
        picture=thumbnail(image, f"Strongest image of {name}"),
        short=name if len(name) <= _LONGEST else f"…/{unit.unit}",  # the heading names the dictionary
        name=name,
        label=f"({label})" if description.abstained else label,
        score=unit.score,
    )
