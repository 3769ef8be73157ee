"""How far the labels of a layer's units hold: how stable they are, and from which contrast on they are right.

Further encoders, each of another seed, are trained without a share of the probe images. A label is *stable* where they
give it too. It is *right* when it names one of the classes that the unit drives most on the images left out, by
class-mean attribution: so the threshold of abstention is calibrated on images that neither label nor encoder saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.embedding import unit_embeddings
from miclip.alignment.encoder import NeuronEncoder
from miclip.alignment.features import feature_embeddings
from miclip.atlas import centre_texts, contrast, normalise, null_contrast
from miclip.kinds import UnitEmbedding
from miclip.retrieval.attribution import AttributionStore, gathering, mix_relevance, usual_mix
from miclip.retrieval.labels import ABSTAIN_CONTRAST
from miclip.settings import settings

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

TOP_CLASSES = 5
"""A label is right when it is among so many classes that the unit drives most."""
FOLDS = 4
"""A further encoder leaves out one image in so many."""
MAX_ROWS = 32_768
"""Probe rows that judge labels, evenly spread over the images: further encoders need no more."""
LEAST_COVERAGE = 0.1
"""Share of labels that a threshold keeps at least: the precision of fewer says little."""

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
        texts: ``E_c`` of every label, float32 ``[K, D]``.
        base: Of features: the activations ``[N, d]`` of the layer that their dictionary is on, which the encoder reads.
        directions: Of features: their decoder directions ``[F, d]``.
    """

    kind: UnitEmbedding
    activations: Float32
    attributions: Float32
    images: NDArray[np.floating]
    predicted: Int64
    sources: Int64
    kept: NDArray[np.bool_]
    texts: Float32
    base: Float32 | None = None
    directions: Float32 | None = None

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
        columns = ("activations", "attributions", "images", "predicted", "sources", "kept", "base")
        there = {name: getattr(self, name) for name in columns if getattr(self, name) is not None}
        return replace(self, **{name: values[chosen] for name, values in there.items()})


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
    effects = _effects(probe.rows(probe.kept) if probe.kept.any() else probe, encoder, texts)
    nearest = np.argsort(-(normalise(embedding) @ texts.T), axis=1, kind="stable")[:, : settings().describe_shortlist]
    shortlisted = np.take_along_axis(effects.T, nearest, axis=1)
    best = np.take_along_axis(nearest, shortlisted.argmax(axis=1)[:, None], axis=1)[:, 0]
    return Labels(best, contrast(shortlisted.max(axis=1), effects.mean(axis=0), effects.std(axis=0)), effects)


def judge_labels(probe: LayerProbe, train: Train, seed: int) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Return the layer's ``LABEL_TENSORS``, and its metrics.

    The metrics are ``abstain_contrast``, the smallest contrast from which on labels are right with the wanted precision
    (or with the highest there is), and the ``label_precision`` and ``label_coverage`` that it had, 0 to 1.

    Args:
        probe: The layer.
        train: Trains or recalls encoders.
        seed: Of folds and null.
    """
    labels = label_units(probe, train(probe, 0))
    null = null_contrast(labels.effects, settings().null_directions, seed)
    judged = probe.rows(_judging(probe))
    folds = fold_images(judged.predicted, judged.sources, seed)[judged.sources]
    agreed, contrasts, right = [], [], []
    for number in range(1, settings().label_seeds):
        held_out = folds == number % FOLDS
        seen = judged.rows(~held_out)
        again = label_units(seen, train(seen, number))
        agreed.append(again.best == labels.best)
        contrasts.append(again.contrast)
        right.append((again.best[:, None] == driven_classes(judged.rows(held_out))).any(axis=1))
    tensors = {
        "effect_mean": labels.effects.mean(axis=0),
        "effect_std": labels.effects.std(axis=0),
        "null_contrast": null,
    }
    if not agreed:
        return tensors, {}
    floor = float(np.interp(settings().abstain_percentile, range(len(null)), null))
    threshold = calibrate(np.concatenate(contrasts), np.concatenate(right), settings().label_precision, floor)
    return tensors | {"stability": np.mean(agreed, axis=0, dtype=np.float32)}, threshold


def calibrate(contrasts: Float32, right: NDArray[np.bool_], wanted: float, floor: float) -> dict[str, float]:
    """Return the smallest contrast that reaches ``wanted`` precision within a standard error, never below ``floor``.

    Where none reaches it, the highest precision there is takes its place (Breiman's rule of one standard error: the
    precision of few labels is itself uncertain). A tenth of all labels is kept, unless fewer reach ``floor``.

    Args:
        contrasts: Contrast of every label, ``[n]``.
        right: Whether it is right, ``[n]``.
        wanted: Precision, 0 to 1.
        floor: Contrast of random directions.
    """
    kept = contrasts >= floor
    order = np.argsort(-contrasts[kept], kind="stable")
    if not len(order):
        return {"abstain_contrast": floor, "label_precision": 0.0, "label_coverage": 0.0}
    counts = np.arange(1, len(order) + 1)
    precision = np.cumsum(right[kept][order]) / counts
    error = np.sqrt(precision * (1 - precision) / counts)
    least = min(len(order), int(np.ceil(LEAST_COVERAGE * len(contrasts)))) - 1
    goal = min(wanted, float(precision[least:].max()))
    last = least + int(np.flatnonzero((precision + error)[least:] >= goal)[-1])
    every = last + 1 == len(order)
    return {
        ABSTAIN_CONTRAST: floor if every else float(contrasts[kept][order][last]),
        "label_precision": float(precision[last]),
        "label_coverage": (last + 1) / len(contrasts),
    }


def driven_classes(probe: LayerProbe) -> Int64:
    """Return the classes that every unit drives most by class-mean attribution, best first, int64 ``[d, 5]``."""
    means = np.zeros((len(probe.texts), probe.attributions.shape[1]), np.float32)
    for label in np.unique(probe.predicted):
        means[label] = probe.attributions[probe.predicted == label].mean(axis=0)
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
    mechanism = encoder.embed_images(probe.read)
    relevance = mix_relevance(usual_mix(), mechanism, probe.images, probe.texts, probe.predicted)
    store, how = AttributionStore(relevance, probe.attributions, probe.predicted), gathering()
    return np.stack([store.scores(store.weigh(text, how)) for text in texts])


def _judging(probe: LayerProbe) -> NDArray[np.bool_]:
    """Rows of evenly spread images, no more than ``MAX_ROWS``."""
    images = np.unique(probe.sources)
    views = len(probe.sources) / len(images)
    count = min(len(images), max(1, int(MAX_ROWS / views)))
    chosen = images[np.arange(count) * len(images) // count]
    return np.isin(probe.sources, chosen)
