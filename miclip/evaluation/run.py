"""``miclip evaluate``: how well units are described, and how well concepts are localized, on the held-out style.

Every seed aligns anew on probe views of its own, so its spread is that of the whole method. Queries are the sample of
every mean.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from miclip.alignment import ProbeSet
from miclip.atlas import Atlas
from miclip.evaluation.agreement import agreement
from miclip.evaluation.aligned import Report, aligned
from miclip.evaluation.costs import costs
from miclip.evaluation.description import Similarity
from miclip.evaluation.dissection import MaskedProbe, network_dissection, spatial_maps
from miclip.evaluation.intervention import Change, Laboratory, intervene
from miclip.evaluation.labelling import label_accuracy, labellings
from miclip.evaluation.methods import LayerMethods, last_weight
from miclip.evaluation.queries import Query, class_names
from miclip.evaluation.record import recorded
from miclip.evaluation.sentences import Embed, sentence_embedder
from miclip.evaluation.subject import EvaluationSettings, Place, Subject
from miclip.evaluation.summary import summarise
from miclip.evaluation.tally import Tally
from miclip.evaluation.unseen import METHODS as TEXT_METHODS
from miclip.evaluation.unseen import hidden_classes, without
from miclip.models.clip import Clip
from miclip.models.target import LOGITS, TargetModel
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import Vocabulary, embed_vocabulary

TOP_UNITS = 5


def evaluate(
    subjects: Sequence[Subject],
    clip: Clip,
    probe: Callable[[int], ProbeSet],
    store: Path,
    settings: EvaluationSettings | None = None,
    report: Report = lambda stage, done, total: None,
    vocabularies: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Evaluate target models; an interrupted run goes on with the stores, encoders and interventions it has.

    Args:
        subjects: Models and images.
        clip: The CLIP model of the alignment.
        probe: Probe set by seed.
        store: Directory of activation stores and recorded interventions; the latter go when the evaluation is whole.
        settings: See :class:`EvaluationSettings`.
        report: Told of progress.
        vocabularies: Open vocabularies by name, that the logits' units are described with.

    Returns:
        ``{"targets": {NAME: {"held_out_top1", "layers": {LAYER: {"neurons": UNITS, "features": UNITS where there are,
        "labels" and "localization" as of the neurons, "description_top1" and "description" of the logits}},
        "unseen": {"classes", "layers": {LAYER: {"neurons", "features": METHODS}}, "trusted_share": {LAYER: {"neurons",
        "features"}}}, "cost": see ``costs``}}}``.
        UNITS is ``{"labels": {METHOD: share}, "agreement": {METHOD: FIGURES}, "localization": METHODS of the class
        names, one METHODS more a kind of query, "verdict": {KIND: VERDICTS}, "evidence": {KIND: {"trusted_share",
        "trusted": VERDICTS, "doubtful": VERDICTS}}, "dictionary" of features}``, METHODS ``{METHOD: {"scale_2": CHANGE,
        "scale_0": CHANGE}}`` and VERDICTS ``{"scale_2", "scale_0"}``. "description" is ``{VOCABULARY: {"size",
        "methods": {METHOD: see Similarity.summary}}}``. Accuracies, shares and changes are in
        percentage points. See ``label_accuracy``, ``summarise_agreement`` (FIGURES), ``summarise`` (CHANGE) and
        ``verdict``.
    """
    chosen = settings or EvaluationSettings()
    embedded = {name: embed_vocabulary(name, concepts, clip.embed_texts)
                for name, concepts in (vocabularies or {}).items()}  # fmt: skip
    found = {s.model.name: _Trial(s, clip, probe, store, chosen, report, embedded).run() for s in subjects}
    shutil.rmtree(store / "interventions", ignore_errors=True)
    return {"targets": found}


class _Trial:
    """The evaluation of one target model."""

    def __init__(
        self,
        subject: Subject,
        clip: Clip,
        probe: Callable[[int], ProbeSet],
        store: Path,
        settings: EvaluationSettings,
        report: Report,
        vocabularies: Mapping[str, Vocabulary],
    ) -> None:
        self._vocabularies = vocabularies
        self._described: dict[str, dict[str, list[NDArray[np.int64]]]] = {name: {} for name in vocabularies}
        self._subject, self._clip, self._probe, self._store = subject, clip, probe, store
        self._settings, self._report, self._tally = settings, report, Tally()
        self._texts: dict[tuple[Query, ...], NDArray[np.float32]] = {}
        self._images = subject.preprocessed()

    def run(self) -> dict[str, Any]:
        model, labels = self._subject.model, self._subject.labels
        logits = torch.cat([model.forward(part).logits for part in self._images.split(128)])
        places = self._subject.places()
        laboratories = {place: self._laboratory(place) for place in places if place.layer != LOGITS}
        with tempfile.TemporaryDirectory(prefix="miclip-evaluate-") as atlases:
            for seed in self._settings.seeds:
                probe = self._probe(seed)
                searcher = AtlasSearcher(self._aligned(self._subject.model, probe, places, seed, Path(atlases)))
                for place in places:
                    methods = LayerMethods(
                        searcher, place.name, self._weight(place), seed, self._dissected(probe, place)
                    )
                    found = labellings(methods, place.layer)
                    self._tally.add_labels(place, label_accuracy(methods, place.layer, found), found)
                    if place.name == LOGITS:
                        self._describe(methods)
                    if place in laboratories:
                        self._intervene(laboratories[place], methods, place, seed)
            unseen = self._unseen(laboratories, Path(atlases))
        top1 = 100.0 * (logits.argmax(dim=1) == labels).float().mean().item()
        layers = self._tally.summary(self._measured)
        layers[LOGITS]["description"] = self._descriptions()
        value: dict[str, Any] = {"held_out_top1": top1, "layers": layers, "unseen": unseen}
        if self._settings.cost:
            self._report(f"{model.name} cost", 0, 1)
            value["cost"] = costs(model, self._subject.penultimate, self._clip, self._probe(self._settings.seeds[0]))
        return value

    def _unseen(self, laboratories: Mapping[Place, Laboratory], atlases: Path) -> dict[str, Any]:
        """Hide some classes from the alignment of the first seed, then localise them by their names."""
        subject, seed = self._subject, self._settings.seeds[0]
        hidden = hidden_classes(len(subject.model.labels), self._settings.unseen)
        if not hidden:
            return {}
        blind, probe = without(subject.model, self._probe(seed), hidden)
        searcher = AtlasSearcher(self._aligned(blind, probe, list(laboratories), seed, atlases))
        names = class_names(subject.model.labels)
        queries = tuple(names[label] for label in hidden)
        layers: dict[str, Any] = {}
        trusted: dict[str, dict[str, float]] = {}
        for place, laboratory in laboratories.items():
            methods = LayerMethods(searcher, place.name, None, seed)
            shares = trusted.setdefault(place.layer, {})
            shares[place.units] = 100.0 * float(methods.trusted(self._embedded(queries)).mean())
            rankings = methods.rankings(names, self._embedded(names), TOP_UNITS)
            found = {method: self._changes(laboratory, place, queries, rankings[method][list(hidden)], lambda: None)
                     for method in TEXT_METHODS}  # fmt: skip
            figures = {method: {scale: summarise([changes]) for scale, changes in scales.items()}
                       for method, scales in found.items()}  # fmt: skip
            layers.setdefault(place.layer, {})[place.units] = figures
        return {"classes": [query.text for query in queries], "layers": layers, "trusted_share": trusted}

    def _describe(self, methods: LayerMethods) -> None:
        """Label the logits' units with the concepts of every open vocabulary."""
        for name, vocabulary in self._vocabularies.items():
            self._report(f"{self._subject.model.name} described with {name}", 0, 1)
            for method, labels in methods.labels(vocabulary).items():
                self._described[name].setdefault(method, []).append(labels)

    def _descriptions(self) -> dict[str, Any]:
        second = sentence_embedder()
        embedders: dict[str, Embed] = {"clip": lambda texts: self._clip.embed_texts(list(texts))}
        embedders |= {"sentence": second} if second else {}
        found: dict[str, Any] = {}
        for name, vocabulary in self._vocabularies.items():
            similarity = Similarity(self._subject.model.labels, vocabulary.concepts, embedders)
            by_method = {method: similarity.summary(labels) for method, labels in self._described[name].items()}
            found[name] = {"size": len(vocabulary.concepts), "methods": by_method}
        return found

    def _measured(self, place: Place) -> dict[str, NDArray[np.float64]]:
        """How well every class says when every unit of a place is active, on the held-out images."""
        model, parts = self._subject.model, self._images.split(128)
        activations = torch.cat([model.forward(part, [place.name]).activations[place.name] for part in parts])
        return agreement(activations.numpy(), self._subject.labels.numpy(), len(model.labels))

    def _laboratory(self, place: Place) -> Laboratory:
        others = self._settings.other_classes[0 if place.layer == self._subject.penultimate else 1]
        model, labels = self._subject.model, self._subject.labels
        return Laboratory(model, place.name, self._images, labels, self._settings.other_views, others)

    def _intervene(self, laboratory: Laboratory, methods: LayerMethods, place: Place, seed: int) -> None:
        asked = self._settings.chosen(self._subject, place.layer)
        rankings = {kind: methods.rankings(some, self._embedded(some), TOP_UNITS) for kind, some in asked.items()}
        total = sum(len(rankings[kind]) * len(some) for kind, some in asked.items())
        stage, done = f"{self._subject.model.name} {place.name} seed {seed}", 0

        def tick() -> None:
            nonlocal done
            done += 1
            self._report(stage, done, total)

        for kind, queries in asked.items():
            self._tally.add_trusted(place, kind, methods.trusted(self._embedded(queries)))
            for method, ranking in rankings[kind].items():
                changes = self._changes(laboratory, place, queries, ranking, tick)
                self._tally.add_changes(place, kind, method, changes)

    def _changes(
        self,
        laboratory: Laboratory,
        place: Place,
        queries: tuple[Query, ...],
        ranking: NDArray[np.int64],
        tick: Callable[[], None],
    ) -> dict[str, list[Change]]:
        targets, units = [query.classes for query in queries], ranking[:, :TOP_UNITS]
        model, images = self._subject.model, self._subject.images
        sae = model.dictionaries.get(place.name)
        where = [model.weights_sha256, sae.sha256 if sae else "", images.sha256, place.name]
        inputs = [*where, self._settings.other_views, self._settings.other_classes, targets, units.tolist()]
        return recorded(self._store / "interventions", inputs, len(targets), tick,
                        lambda each: intervene(laboratory, units, targets, TOP_UNITS, each))  # fmt: skip

    def _embedded(self, queries: tuple[Query, ...]) -> NDArray[np.float32]:
        if queries not in self._texts:
            self._texts[queries] = self._clip.embed_texts([query.text for query in queries])
        return self._texts[queries]

    def _weight(self, place: Place) -> NDArray[np.float32] | None:
        if place.name != self._subject.penultimate:
            return None
        model = self._subject.model
        return last_weight(model.module, len(model.labels), model.layer_sizes[place.name])

    def _dissected(self, probe: ProbeSet, place: Place) -> NDArray[np.float32] | None:
        """Network Dissection's scores, where the probe set has masks and the place has positions."""
        if not isinstance(probe, MaskedProbe) or place.layer == LOGITS:
            return None
        model, total = self._subject.model, len(probe.names)
        images = torch.stack([model.preprocess(image) for image in probe.load(0, total)])
        maps = spatial_maps(model, place.name, images)
        if maps is None:
            return None
        return network_dissection(maps, probe.masks(0, total), probe.labels, len(model.labels))

    def _aligned(self, model: TargetModel, probe: ProbeSet, places: Sequence[Place], seed: int, atlases: Path) -> Atlas:
        layers = [place.name for place in places]
        return aligned(model, self._clip, probe, layers, seed, self._store, atlases, self._report)
