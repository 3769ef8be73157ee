"""How far the labels of a layer's units hold: how stable they are, and from which contrast on they are right.

Further encoders, each of another seed, are trained without a share of the probe images. A label is *stable* where they
give it too; how sure it is, and what can be promised from which confidence on, is the matter of
``miclip.alignment.promise``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.embedding import unit_embeddings
from miclip.alignment.encoder import NeuronEncoder
from miclip.alignment.features import feature_embeddings
from miclip.alignment.outputs import mean_by_label, output_prototypes
from miclip.alignment.promise import TOP_CLASSES, Part, calibrate, confidences
from miclip.atlas import centre_texts, contrast, normalise, null_contrast
from miclip.kinds import UnitEmbedding
from miclip.promise import Promise
from miclip.retrieval.attribution import AttributionStore, gathering, mix_outputs, usual_mix
from miclip.settings import settings

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

FOLDS = 4
"""A further encoder leaves out one image in so many."""
MAX_ROWS = 32_768
"""Probe rows that judge labels, evenly spread over the images: further encoders need no more."""

Train = Callable[["LayerProbe", int], NeuronEncoder]
"""Probe and number of the encoder, 0 for the first, → encoder."""


@dataclass(frozen=True)
class LayerProbe:
    """What the probe set says of one layer.

    Attributes:
        kind: Which unit embedding describes the layer.
        activations: float32 ``[N, d]``.
        attributions: float32 ``[N, d]``, in logits.
        images: ``E_i`` of every row, normalised, ``[N, D]``.
        predicted: Predicted label of every row, int64 ``[N]``.
        sources: Image that every row is a view of, int64 ``[N]``.
        kept: Whether the atlas keeps the row, bool ``[N]``.
        logits: Of every row, ``[N, K]``.
        texts: ``E_c`` of every label, float32 ``[K, D]``.
        base: Of features: the activations ``[N, d]`` of the layer that their dictionary is on, which the encoder reads.
        directions: Of features: their decoder directions ``[F, d]``.
        output_effects: Mean attribution of every output's margin, ``[K, d]``, in logits; None: of the rows predicted as
            it.
    """

    kind: UnitEmbedding
    activations: Float32
    attributions: Float32
    images: NDArray[np.floating]
    predicted: Int64
    sources: Int64
    kept: NDArray[np.bool_]
    logits: NDArray[np.floating]
    texts: Float32
    base: Float32 | None = None
    directions: Float32 | None = None
    output_effects: Float32 | None = None

    @property
    def read(self) -> Float32:
        """What the encoder reads: the activations of neurons, ``[N, d]``."""
        return self.activations if self.base is None else self.base

    def embeddings(self, encoder: NeuronEncoder) -> dict[str, Float32]:
        """Return every kind of unit embedding, each float32 ``[d, D]``, not normalised."""
        if self.base is None or self.directions is None:
            return unit_embeddings(encoder, self.activations, self.attributions)
        return feature_embeddings(self.directions, encoder, self.base, self.activations, self.attributions)

    def rows(self, chosen: NDArray[np.bool_]) -> LayerProbe:
        """Return the probe of the ``chosen`` rows alone, bool ``[N]``."""
        columns = ("activations", "attributions", "images", "predicted", "sources", "kept", "logits", "base")
        there = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        return replace(self, output_effects=None, **{name: values[chosen] for name, values in there.items()})

    @property
    def effects(self) -> Float32:
        """Mean attribution of every output's margin, ``[K, d]``, in logits; 0 where no row is predicted as it."""
        if self.output_effects is not None:
            return self.output_effects
        return mean_by_label(self.attributions, self.predicted, len(self.texts))


@dataclass(frozen=True)
class Labels:
    """The label of every unit, as ``AtlasSearcher.describe`` gives it.

    Attributes:
        best: Label, int64 ``[d]``.
        contrast: Its contrast, float32 ``[d]``.
        effects: Causal score of every label and unit, float32 ``[K, d]``, in logits.
    """

    best: Int64
    contrast: Float32
    effects: Float32


def label_units(probe: LayerProbe, encoder: NeuronEncoder) -> Labels:
    """Label the units of a layer by its model's labels."""
    texts = centre_texts(probe.texts, probe.texts.mean(axis=0))
    embedding = probe.embeddings(encoder)[probe.kind]
    effects = _effects(probe, encoder, texts)
    nearest = np.argsort(-(normalise(embedding) @ texts.T), axis=1, kind="stable")[:, : settings().describe_shortlist]
    shortlisted = np.take_along_axis(effects.T, nearest, axis=1)
    best = np.take_along_axis(nearest, shortlisted.argmax(axis=1)[:, None], axis=1)[:, 0]
    return Labels(best, contrast(shortlisted.max(axis=1), effects.mean(axis=0), effects.std(axis=0)), effects)


@dataclass(frozen=True)
class Judges:
    """Recoloured probe images, and what the model makes of them in one layer.

    Attributes:
        attributions: float32 ``[M, d]``, in logits.
        predicted: Predicted label of every row, int64 ``[M]``.
        sources: Image that every row is a view of, int64 ``[M]``.
    """

    attributions: Float32
    predicted: Int64
    sources: Int64

    def part(self, chosen: NDArray[np.bool_], labels: int) -> Part:
        """Summarise the ``chosen`` rows, bool ``[M]``."""
        return Part.of(self.attributions[chosen], self.predicted[chosen], labels)


def judge_labels(
    probe: LayerProbe, judges: Judges, train: Train, seed: int
) -> tuple[dict[str, NDArray[np.float32]], Promise | None]:
    """Return the layer's ``LABEL_TENSORS``, and what can be promised of its labels; None where none were tried.

    Args:
        probe: The layer.
        judges: The same images recoloured, or some of them.
        train: Trains or recalls encoders.
        seed: Of parts and null.
    """
    labels = label_units(probe, train(probe, 0))
    tensors = {
        "effect_mean": labels.effects.mean(axis=0),
        "effect_std": labels.effects.std(axis=0),
        "null_contrast": null_contrast(labels.effects, settings().null_directions, seed),
    }
    tried = min(settings().label_seeds - 1, FOLDS)
    if not tried:
        return tensors, None
    seen = probe.rows(np.isin(probe.sources, judges.sources))
    folds = fold_images(seen.predicted, seen.sources, seed)
    parts = _parts(judges, folds, len(probe.texts))
    agreed, sure, right, shown = [], [], [], []
    for number in range(1, tried + 1):
        left_out = number % FOLDS
        some = seen.rows(folds[seen.sources] != left_out)
        again = label_units(some, train(some, number))
        agreed.append(again.best == labels.best)
        sure.append(_confidence(again, [part for fold, part in parts.items() if fold != left_out]))
        judge = parts.get(left_out)
        right.append(judge.right(again.best) if judge else np.zeros(len(again.best), bool))
        shown.append(judge.shows(again.best) if judge else np.zeros(len(again.best), bool))
    confidence = _confidence(labels, list(parts.values()))
    promise = calibrate(np.stack(sure), np.stack(right), np.stack(shown), settings().label_precision)
    kept = float((confidence >= promise.confidence).mean()) if promise.reached else 0.0
    tensors |= {"stability": np.mean(agreed, axis=0, dtype=np.float32), "confidence": confidence}
    return tensors, replace(promise, coverage=kept)


def judging_rows(sources: Int64) -> Int64:
    """Return the rows that judge labels: those of evenly spread images, no more than ``MAX_ROWS``, ascending."""
    images = np.unique(sources)
    views = len(sources) / len(images)
    count = min(len(images), max(1, int(MAX_ROWS / views)))
    chosen = images[np.arange(count) * len(images) // count]
    return np.flatnonzero(np.isin(sources, chosen))


def driven_classes(probe: LayerProbe) -> Int64:
    """Return the classes that every unit drives most by class-mean attribution, best first, int64 ``[d, 5]``."""
    means = mean_by_label(probe.attributions, probe.predicted, len(probe.texts))
    return np.argsort(-means, axis=0, kind="stable")[:TOP_CLASSES].T.astype(np.int64)


def fold_images(predicted: Int64, sources: Int64, seed: int) -> Int64:
    """Deal images to ``FOLDS`` folds, each class's evenly: a class absent from a fold could not be right there.

    Args:
        predicted: Predicted label of every row ``[N]``; an image counts by its first row.
        sources: Image of every row ``[N]``.
        seed: Of the dealing.

    Returns:
        Fold of every image, int64 ``[max(sources) + 1]``.
    """
    images, first = np.unique(sources, return_index=True)
    shuffled = np.random.default_rng(seed).permutation(len(images))
    dealt = shuffled[np.argsort(predicted[first][shuffled], kind="stable")]
    folds = np.zeros(int(images[-1]) + 1, np.int64)
    folds[images[dealt]] = np.arange(len(images)) % FOLDS
    return folds


def _effects(probe: LayerProbe, encoder: NeuronEncoder, texts: Float32) -> Float32:
    """Causal score of every label and unit ``[K, d]``, as searches score it."""
    mix, how = usual_mix(), gathering()
    mechanism = None
    if mix.mechanism:
        mechanism = np.zeros_like(texts)
        np.add.at(mechanism, probe.predicted, encoder.embed_images(probe.read))
    vectors = mix_outputs(mix, output_prototypes(probe.logits, probe.images), texts, mechanism)
    store = AttributionStore(vectors, probe.effects, np.arange(len(texts)))
    return np.stack([store.scores(store.weigh(text, how)) for text in texts])


def _parts(judges: Judges, folds: Int64, labels: int) -> dict[int, Part]:
    """What every fold of the images shows; a fold without images is left out."""
    of_row = folds[judges.sources]
    return {int(fold): judges.part(of_row == fold, labels) for fold in np.unique(of_row)}


def _confidence(labels: Labels, parts: Sequence[Part]) -> Float32:
    units = np.arange(len(labels.best))
    return confidences(labels.best, labels.contrast, labels.effects[labels.best, units], parts)
