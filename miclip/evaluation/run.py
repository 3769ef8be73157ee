"""``miclip evaluate``: how well units are described, and how well concepts are localized, on images of their own.

Every seed aligns anew, so its spread is that of the whole method. Queries and units are the sample of every mean.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miclip.alignment import AlignmentConfig, ProbeSet, align_model
from miclip.atlas import Atlas
from miclip.evaluation.carrying import carried_shares
from miclip.evaluation.cost import costs
from miclip.evaluation.curves import curves
from miclip.evaluation.description import Embed, Similarity, sentence_embedder
from miclip.evaluation.intervention import Change, Laboratory, Tick, intervene, recorded
from miclip.evaluation.judge import Judge, judges
from miclip.evaluation.labelling import labellings
from miclip.evaluation.measures import Costs, OpenVocabulary
from miclip.evaluation.methods import METHODS, LayerData, describe_units, rank_units, trusted_queries
from miclip.evaluation.methods.network_dissection import positions_of
from miclip.evaluation.methods.white_boxes import last_weight
from miclip.evaluation.queries import Query, class_names, spread
from miclip.evaluation.result import NAMES, Place, Result, Target, Unseen, UnseenUnits
from miclip.evaluation.subject import EvaluationSettings, Subject
from miclip.evaluation.summary import ORACLE
from miclip.evaluation.tally import Tally, localization
from miclip.evaluation.unseen import hidden_classes, without
from miclip.models.clip import Clip
from miclip.models.target import LOGITS, TargetModel
from miclip.progress import Progress, Report, Stage, StageKind, about, silent
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import Vocabulary, embed_vocabulary

TOP_UNITS = 5
BATCH = 128
Rankings = dict[str, dict[str, NDArray[np.int64]]]
"""Units by kind of query and method, int64 ``[Q, TOP_UNITS]``, best first."""


def evaluate(
    subjects: Sequence[Subject],
    clip: Clip,
    probe: Callable[[int], ProbeSet],
    store: Path,
    settings: EvaluationSettings | None = None,
    report: Report = silent,
    vocabularies: Mapping[str, Sequence[str]] | None = None,
) -> Result:
    """Evaluate target models; an interrupted run goes on with the stores, encoders and interventions it has.

    Args:
        subjects: Models and images.
        clip: The CLIP model of the alignment.
        probe: Probe set by seed; none of its images may be among those that judge.
        store: Directory of activation stores and recorded interventions; the latter go when the evaluation is whole.
        settings: See :class:`EvaluationSettings`.
        report: Called with the progress.
        vocabularies: Open vocabularies by name, that the logits' units are described with.
    """
    chosen = settings or EvaluationSettings()
    embedded = {name: embed_vocabulary(name, concepts, clip.embed_texts)
                for name, concepts in (vocabularies or {}).items()}  # fmt: skip
    targets = {s.model.name: _Trial(s, clip, probe, store, chosen, report, embedded).run() for s in subjects}
    shutil.rmtree(store / "interventions", ignore_errors=True)
    return Result(methods=tuple(method.card for method in METHODS), targets=targets)


def align_seed(
    model: TargetModel,
    clip: Clip,
    probe: ProbeSet,
    layers: Sequence[str],
    seed: int,
    store: Path,
    atlases: Path,
    report: Report,
) -> Atlas:
    """Align ``model`` with one seed and open the atlas.

    Args:
        model: The target model.
        clip: The CLIP model.
        probe: Images to align on.
        layers: Layers to align.
        seed: Of the encoders.
        store: Directory of activation stores, which a later run goes on with.
        atlases: Receives the atlas.
        report: Called with the progress.
    """
    config = AlignmentConfig(layers=tuple(layers), stands_alone=False)
    config = replace(config, encoder=replace(config.encoder, seed=seed))

    told = about(f"{model.name} seed {seed}", report)
    atlas_id = align_model(model, clip, probe, config, store=store, atlas_root=atlases, report=told)
    return Atlas.open(atlases, atlas_id, model_weights_sha256=model.weights_sha256)


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
        self._subject, self._clip, self._probe, self._store = subject.controlled(), clip, probe, store
        self._settings, self._report, self._vocabularies = settings, report, vocabularies
        self._places = self._subject.places()
        self._tally = Tally(self._places)
        self._told: dict[Place, NDArray[np.int64]] = {}  # units of every class name, by one who is told the class
        self._described: dict[str, dict[str, list[NDArray[np.int64]]]] = {
            name: defaultdict(list) for name in vocabularies
        }
        self._texts: dict[tuple[Query, ...], NDArray[np.float32]] = {}
        self._images = subject.preprocessed()

    def run(self) -> Target:
        names = [place.name for place in self._places]
        predicted, judging = judges(self._subject.model, self._images, self._subject.labels, names)
        edited = [place for place in self._places if place.layer != LOGITS and place.units != "random features"]
        laboratories = {place: self._laboratory(place) for place in edited}
        with tempfile.TemporaryDirectory(prefix="miclip-evaluate-") as atlases:
            for seed in self._settings.seeds:
                self._run_seed(seed, judging, laboratories, Path(atlases))
            unseen = self._unseen(laboratories, Path(atlases))
        images, probe = self._subject.images, self._probe(self._settings.seeds[0])
        return Target(
            held_out_top1=100.0 * float((predicted == self._subject.labels.numpy()).mean()),
            judged_on=f"{len(images.names):,} images of {images.name}",
            aligned_on=f"{len(probe.names):,} images of {probe.name}",
            places=self._tally.summary(judging, self._descriptions()),
            unseen=unseen,
            cost=self._cost(probe),
        )

    def _run_seed(
        self, seed: int, judging: Mapping[str, Judge], laboratories: Mapping[Place, Laboratory], atlases: Path
    ) -> None:
        model, probe = self._subject.model, self._probe(seed)
        searcher = AtlasSearcher(self._aligned(model, probe, self._places, seed, atlases))
        for place in self._places:
            positions = positions_of(model, place.name, probe)
            data = LayerData(searcher, place.name, seed, self._weight(place), positions)
            self._tally.add_labels(place, labellings(data, judging[place.name]))
            if place.name == LOGITS:
                self._describe(data)
                continue
            rankings = self._rank(data, judging[place.name], place)
            if place in laboratories:
                self._intervene(laboratories[place], rankings, place, seed)
                self._draw(laboratories[place], data, judging[place.name], place, seed)

    def _rank(self, data: LayerData, judge: Judge, place: Place) -> Rankings:
        """Ask every query of every method, and note what the units carry."""
        rankings: Rankings = {}
        for kind, queries in self._subject.asked().items():
            texts = self._embedded(queries)
            rankings[kind] = rank_units(data, queries, texts, TOP_UNITS)
            trusted = trusted_queries(data, queries, texts, TOP_UNITS)
            shares = {
                name: carried_shares(judge.effects, queries, units, TOP_UNITS) for name, units in rankings[kind].items()
            }
            self._tally.add_carried(place, kind, shares, trusted)
        return rankings

    def _draw(self, laboratory: Laboratory, data: LayerData, judge: Judge, place: Place, seed: int) -> None:
        """Draw curves over the number of units: neurons of the last layer, first seed."""
        if place.name != self._subject.penultimate or seed != self._settings.seeds[0] or not self._settings.curve:
            return
        queries = spread(self._subject.asked()[NAMES], self._settings.curve_queries)
        found = curves(laboratory, data, judge, queries, self._embedded(queries), self._settings.curve)
        self._tally.add_curves(place, found)

    def _unseen(self, laboratories: Mapping[Place, Laboratory], atlases: Path) -> Unseen | None:
        """Hide some classes from the alignment of the first seed, then localise them by their names.

        The oracle is that of the whole alignment, which is told all of them.
        """
        subject, seed = self._subject, self._settings.seeds[0]
        classes, shown = len(subject.model.labels), [query.classes[0] for query in subject.asked()[NAMES]]
        places = hidden_classes(len(shown), min(self._settings.unseen, classes // 8))
        hidden = tuple(shown[place] for place in places)
        if not hidden or subject.atlas:
            return None
        blind, probe = without(subject.model, self._probe(seed), hidden)
        searcher = AtlasSearcher(self._aligned(blind, probe, list(laboratories), seed, atlases))
        names = class_names(subject.model.labels)
        queries = tuple(names[label] for label in hidden)
        found = []
        for place, laboratory in laboratories.items():
            data = LayerData(searcher, place.name, seed)
            trusted = trusted_queries(data, names, self._embedded(names), TOP_UNITS)[list(hidden)]
            rankings = rank_units(data, names, self._embedded(names), TOP_UNITS, by_text_alone=True)
            rows = {method: ranking[list(hidden)] for method, ranking in rankings.items()}
            rows[ORACLE] = self._told[place][list(places)]
            scales: dict[str, dict[str, list[Sequence[Change]]]] = defaultdict(dict)
            for method, ranking in rows.items():
                changes = self._changes(laboratory, place, queries, ranking, lambda: None)
                for scale, values in changes.items():
                    scales[scale][method] = [values]
            share = 100.0 * float(trusted.mean())
            found.append(UnseenUnits(**dict(place), trusted_share=share, localization=localization(scales)))
        return Unseen(classes=tuple(query.text for query in queries), places=tuple(found))

    def _describe(self, data: LayerData) -> None:
        """Label the logits' units with the concepts of every open vocabulary."""
        for name, vocabulary in self._vocabularies.items():
            stage = Stage(StageKind.DESCRIPTIONS, name, self._subject.model.name)
            self._report(Progress(stage, 0, 1))
            for method, labels in describe_units(data, vocabulary).items():
                self._described[name][method].append(labels)

    def _descriptions(self) -> dict[str, OpenVocabulary]:
        second = sentence_embedder()
        embedders: dict[str, Embed] = {"clip": lambda texts: self._clip.embed_texts(list(texts))}
        embedders |= {"sentence": second} if second else {}
        descriptions = {}
        for name, vocabulary in self._vocabularies.items():
            similarity = Similarity(self._subject.model.labels, vocabulary.concepts, embedders)
            by_method = {method: similarity.summary(labels) for method, labels in self._described[name].items()}
            descriptions[name] = OpenVocabulary(size=len(vocabulary.concepts), methods=by_method)
        return descriptions

    def _laboratory(self, place: Place) -> Laboratory:
        others = self._settings.other_classes[0 if place.layer == self._subject.penultimate else 1]
        model, labels = self._subject.model, self._subject.labels
        return Laboratory(model, place.name, self._images, labels, self._settings.other_views, others)

    def _intervene(self, laboratory: Laboratory, rankings: Rankings, place: Place, seed: int) -> None:
        if seed == self._settings.seeds[0]:
            self._told[place] = rankings[NAMES][ORACLE]
        asked, chosen = self._subject.asked(), self._settings.chosen(self._subject, place.layer)
        total = sum(len(rankings[kind]) * len(some) for kind, some in chosen.items())
        stage, done = Stage(StageKind.INTERVENTIONS, place.name, f"{self._subject.model.name} seed {seed}"), 0

        def tick() -> None:
            nonlocal done
            done += 1
            self._report(Progress(stage, done, total))

        for kind, queries in chosen.items():
            places = {query: row for row, query in enumerate(asked[kind])}
            rows = [places[query] for query in queries]
            for method, ranking in rankings[kind].items():
                changes = self._changes(laboratory, place, queries, ranking[rows], tick)
                self._tally.add_changes(place, kind, method, rows, changes)

    def _changes(
        self,
        laboratory: Laboratory,
        place: Place,
        queries: tuple[Query, ...],
        ranking: NDArray[np.int64],
        tick: Tick,
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
        return last_weight(self._subject.model, place.name, self._images[:BATCH])

    def _aligned(self, model: TargetModel, probe: ProbeSet, places: Sequence[Place], seed: int, atlases: Path) -> Atlas:
        if self._subject.atlas is not None:
            return self._subject.atlas
        layers = [place.name for place in places]
        return align_seed(model, self._clip, probe, layers, seed, self._store, atlases, self._report)

    def _cost(self, probe: ProbeSet) -> Costs | None:
        if not self._settings.cost or self._subject.atlas:
            return None
        self._report(Progress(Stage(StageKind.COST, subject=self._subject.model.name), 0, 1))
        return costs(self._subject.model, self._subject.penultimate, self._clip, probe)
