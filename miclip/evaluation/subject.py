"""What is evaluated: a target model, the places in it, the images that judge it, and how much is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from miclip.alignment import ProbeSet
from miclip.atlas import Atlas
from miclip.evaluation.queries import Query, class_names, spread
from miclip.evaluation.result import NAMES, Place
from miclip.models.target import LOGITS, TargetModel


@dataclass(frozen=True)
class Subject:
    """One target model with the images that judge it.

    Attributes:
        model: The target model.
        layers: Layers whose units are judged, in the order of the network; the last is the one before the logits.
        images: Images that judge, each uint8 ``[3, H, W]``, some of every class.
        labels: Their classes, int64 ``[N]``.
        queries: Queries by kind, beside the class names.
        atlas: Judged as it is, by one seed, instead of aligning anew; None aligns.
    """

    model: TargetModel
    layers: tuple[str, ...]
    images: ProbeSet
    labels: Tensor
    queries: Mapping[str, Sequence[Query]] = field(default_factory=dict)
    atlas: Atlas | None = None

    @property
    def penultimate(self) -> str:
        """The last layer before the logits."""
        return self.layers[-1]

    def places(self) -> list[Place]:
        """Return the places of the layers and of the logits, in the order of the network.

        A layer's features are those of its first dictionary.
        """
        places = []
        for layer in (*self.layers, LOGITS):
            places.append(Place(layer=layer, units="neurons", dictionary=""))
            on_layer = (name for name in self._dictionaries() if self.model.layers[name].base == layer)
            ids = (name.rpartition("/")[2] for name in islice(on_layer, 1))
            places += [Place(layer=layer, units="features", dictionary=id_) for id_ in ids]
        return places

    def _dictionaries(self) -> list[str]:
        """The layers of features; with a stored atlas, those that it knows."""
        return [name for name in self.model.dictionaries if self.atlas is None or name in self.atlas.layer_names]

    def preprocessed(self) -> Tensor:
        """Return the images as the model takes them, float32 ``[N, 3, S, S]``."""
        return torch.stack([self.model.preprocess(image) for image in self.images.load(0, len(self.images.names))])


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is measured.

    Attributes:
        seeds: Seeds of probe views, encoders and random controls.
        queries: Most queries by kind, at the last layer and at those before it, where an intervention costs ten
            times as much; they are spread evenly. A kind that is not named is left out.
        other_views: Views of a class that measure side effects.
        other_classes: Classes, evenly spread, that measure side effects, at the last layer and at those before it.
        unseen: Classes that are hidden from an alignment and then localised by their names; at most an eighth of all.
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
        asked = {kind: spread(all_kinds[kind], most[place]) for kind, most in self.queries.items() if kind in all_kinds}
        return {kind: queries for kind, queries in asked.items() if queries}
