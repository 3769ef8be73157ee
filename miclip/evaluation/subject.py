"""What is evaluated: a target model, the places in it, the images that judge it, and how much is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from miclip.alignment import ProbeSet
from miclip.evaluation.queries import Query, class_names, spread
from miclip.models.target import LOGITS, TargetModel

NAMES = "names"
"""Kind of the queries that are class names; every subject has it."""


@dataclass(frozen=True)
class Place:
    """Units of a layer: its neurons, or the features of a dictionary on it.

    Attributes:
        layer: The layer.
        units: ``neurons`` or ``features``.
        name: What the model and its atlas call the units' layer.
    """

    layer: str
    units: str
    name: str


@dataclass(frozen=True)
class Subject:
    """One target model with the images that judge it.

    Attributes:
        model: The target model.
        penultimate: Layer before the logits.
        middle: A layer in the middle.
        images: Held-out images, each uint8 ``[3, H, W]``, ordered by view, then class.
        labels: Their classes, int64 ``[N]``.
        queries: Queries by kind, beside the class names.
    """

    model: TargetModel
    penultimate: str
    middle: str
    images: ProbeSet
    labels: Tensor
    queries: Mapping[str, Sequence[Query]] = field(default_factory=dict)

    def places(self) -> list[Place]:
        """Return the places of the middle, the penultimate layer and the logits, in this order.

        A layer's features are those of its first dictionary.
        """
        found = []
        for layer in (self.middle, self.penultimate, LOGITS):
            found.append(Place(layer, "neurons", layer))
            on_layer = (name for name in self.model.dictionaries if self.model.layers[name].base == layer)
            found += [Place(layer, "features", name) for name in islice(on_layer, 1)]
        return found

    def preprocessed(self) -> Tensor:
        """Return the images as the model takes them, float32 ``[N, 3, S, S]``."""
        return torch.stack([self.model.preprocess(image) for image in self.images.load(0, len(self.images.names))])


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is measured.

    Attributes:
        seeds: Seeds of probe views, encoders and random controls.
        queries: Most queries by kind, at the penultimate and at the middle layer, where an intervention costs ten times
            as much; they are spread evenly. A kind that is not named is left out.
        other_views: Views of a class that measure side effects.
        other_classes: Classes, evenly spread, that measure side effects, at the penultimate and at the middle layer.
        unseen: Classes that are hidden from an alignment and then localised by their names.
        cost: Whether alignment and baselines are timed.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    queries: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {NAMES: (128, 48), "synonyms": (64, 28), "keywords": (64, 0), "categories": (32, 0)}
    )
    other_views: int = 4
    other_classes: tuple[int, int] = (64, 16)
    unseen: int = 16
    cost: bool = True

    def chosen(self, subject: Subject, layer: str) -> dict[str, tuple[Query, ...]]:
        """Return the queries by kind that are asked at a layer."""
        place = 0 if layer == subject.penultimate else 1
        all_kinds = {NAMES: class_names(subject.model.labels), **subject.queries}
        found = {kind: spread(all_kinds[kind], most[place]) for kind, most in self.queries.items() if kind in all_kinds}
        return {kind: queries for kind, queries in found.items() if queries}
