"""What is evaluated: a target model, the places in it, the images that judge it, and how much is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from miclip.alignment import ProbeSet
from miclip.atlas import Atlas
from miclip.evaluation.queries import Query, class_names, spread
from miclip.evaluation.random_dictionary import PREFIX, with_random_dictionaries
from miclip.evaluation.result import NAMES, Place
from miclip.models.target import LOGITS, TargetModel


@dataclass(frozen=True)
class Subject:
    """One target model with the images that judge it.

    Attributes:
        model: The target model.
        layers: Layers whose units are judged, in the order of the network; the last is the one before the logits.
        images: Images that judge, each uint8 ``[3, H, W]``; a class without any is not asked for.
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

    def controlled(self) -> Subject:
        """Return the same with a random dictionary beside the first dictionary of every layer.

        A stored atlas knows none: the same then.
        """
        if self.atlas is not None:
            return self
        return replace(self, model=with_random_dictionaries(self.model, self.layers))

    def places(self) -> list[Place]:
        """Return the places of the layers and of the logits, in the order of the network.

        A layer's features are those of its first dictionary, and of the random one beside it; with a stored atlas, of
        those that it knows.
        """

        def known(name: str) -> bool:
            return self.atlas is None or name in self.atlas.layer_names

        places = []
        for layer in (*self.layers, LOGITS):
            places.append(Place(layer=layer, units="neurons", dictionary=""))
            ids = [sae.dictionary for name, sae in self.model.dictionaries.items() if sae.base == layer and known(name)]
            learned = [id_ for id_ in ids if not id_.startswith(PREFIX)][:1]
            places += [Place(layer=layer, units="features", dictionary=id_) for id_ in learned]
            drawn = [id_ for id_ in ids if id_.startswith(PREFIX)]
            places += [Place(layer=layer, units="random features", dictionary=id_) for id_ in drawn]
        return places

    def asked(self) -> dict[str, tuple[Query, ...]]:
        """Return all queries by kind, class names first, without those that no judging image is about."""
        shown = set(self.labels.tolist())
        kinds = {NAMES: class_names(self.model.labels), **self.queries}
        about = {kind: tuple(query for query in some if shown & set(query.classes)) for kind, some in kinds.items()}
        return {kind: queries for kind, queries in about.items() if queries}

    def preprocessed(self) -> Tensor:
        """Return the images as the model takes them, float32 ``[N, 3, S, S]``."""
        return torch.stack([self.model.preprocess(image) for image in self.images.load(0, len(self.images.names))])


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is measured.

    Attributes:
        seeds: Seeds of probe views, encoders and random controls.
        queries: Most queries that interventions are made for, by kind, at the last layer and at those before it, where
            an intervention costs ten times as much; they are spread evenly. A kind that is not named has none. What
            units carry is measured for all queries of all kinds.
        other_views: Views of a class that measure side effects.
        other_classes: Classes, evenly spread, that measure side effects, at the last layer and at those before it.
        unseen: Classes that are hidden from an alignment and then localised by their names; at most an eighth of all.
        curve: Numbers of units a query that curves go through; class names at the last layer, first seed.
        curve_queries: Queries of a curve.
        cost: Whether alignment and baselines are timed.
    """

    seeds: tuple[int, ...] = (0,)
    queries: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {NAMES: (64, 24), "fresh_synonyms": (32, 14), "fresh_categories": (16, 0)}
    )
    other_views: int = 4
    other_classes: tuple[int, int] = (64, 16)
    unseen: int = 16
    curve: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    curve_queries: int = 32
    cost: bool = True

    def chosen(self, subject: Subject, layer: str) -> dict[str, tuple[Query, ...]]:
        """Return the queries by kind that interventions are made for at a layer."""
        place, asked = 0 if layer == subject.penultimate else 1, subject.asked()
        chosen = {kind: spread(asked[kind], most[place]) for kind, most in self.queries.items() if kind in asked}
        return {kind: queries for kind, queries in chosen.items() if queries}
