"""``miclip evaluate``: how well units are described, and how well concepts are localized, on the held-out style.

Every seed aligns anew on probe views of its own, so its spread is that of the whole method. Classes are the sample of
every mean.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miclip.alignment import AlignmentConfig, ProbeSet, align_model
from miclip.atlas import Atlas
from miclip.evaluation.baselines import mean_activation_ranking, random_ranking
from miclip.evaluation.intervention import Change, Laboratory, intervene
from miclip.models.clip import Clip
from miclip.models.target import LOGITS, TargetModel
from miclip.retrieval import AtlasSearcher, LocalizationMethod

SEARCHES: tuple[LocalizationMethod, ...] = ("filter", "pattern", "causal", "attribution")
METHODS = ("random", "mean_activation", *SEARCHES)
TOP_UNITS = 5

Report = Callable[[str, int, int], None]
"""Called with stage, done, in all."""


@dataclass(frozen=True)
class Subject:
    """One target model with the images that judge it.

    Attributes:
        model: The target model.
        penultimate: Layer before the logits.
        middle: A layer in the middle.
        images: Held-out images, each uint8 ``[3, H, W]``, ordered by view, then class.
        labels: Their classes, int64 ``[N]``.
    """

    model: TargetModel
    penultimate: str
    middle: str
    images: ProbeSet
    labels: Tensor


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is measured.

    Attributes:
        seeds: Seeds of probe views, encoders and random controls.
        middle_classes: Classes intervened on at the middle layer, evenly spread; the penultimate layer takes all.
        other_views: Views of every class that measure side effects, for the penultimate and the middle layer.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    middle_classes: int = 128
    other_views: tuple[int, int] = (4, 1)


def evaluate(
    subjects: Sequence[Subject],
    clip: Clip,
    probe: Callable[[int], ProbeSet],
    store: Path,
    settings: EvaluationSettings | None = None,
    report: Report = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Evaluate target models; an interrupted run reuses the activation stores and encoders it had finished.

    Args:
        subjects: Models and images.
        clip: The CLIP model of the alignment.
        probe: Probe set by seed.
        store: Directory of activation stores.
        settings: See :class:`EvaluationSettings`.
        report: Told of progress.

    Returns:
        ``{"targets": {NAME: {"held_out_top1", "layers": {LAYER: {"description_top1", "localization": {METHOD:
        {"scale_2": {"target", "others"}, "scale_0": {…}}}}}}}}``, accuracies and changes in percentage points.
    """
    settings = settings or EvaluationSettings()
    return {"targets": {s.model.name: _evaluate_one(s, clip, probe, store, settings, report) for s in subjects}}


def _evaluate_one(
    subject: Subject,
    clip: Clip,
    probe: Callable[[int], ProbeSet],
    store: Path,
    settings: EvaluationSettings,
    report: Report,
) -> dict[str, Any]:
    model = subject.model
    images = _preprocessed(subject)
    logits = torch.cat([model.forward(part).logits for part in images.split(128)])
    top1 = 100.0 * (logits.argmax(dim=1) == subject.labels).float().mean().item()
    laboratories = {
        layer: Laboratory(model, layer, images, subject.labels, views)
        for layer, views in zip((subject.penultimate, subject.middle), settings.other_views, strict=True)
    }
    layers = (subject.middle, subject.penultimate, LOGITS)
    described: list[float] = []
    changes: dict[tuple[str, str, str], list[Change]] = {}
    with tempfile.TemporaryDirectory(prefix="miclip-evaluate-") as atlases:
        for seed in settings.seeds:
            atlas = _align(model, clip, probe(seed), layers, seed, store, Path(atlases), report)
            searcher = AtlasSearcher(atlas)
            described.append(description_top1(searcher))
            for layer, laboratory in laboratories.items():
                classes = _classes(subject, layer, settings)
                stage, done, total = f"{model.name} {layer} seed {seed}", 0, len(METHODS) * len(classes)
                for method, ranking in rankings(searcher, layer, seed).items():

                    def tick() -> None:
                        nonlocal done
                        done += 1
                        report(stage, done, total)  # noqa: B023 - called within the iteration

                    found = intervene(laboratory, ranking, classes, TOP_UNITS, tick)
                    for scale, values in found.items():
                        changes.setdefault((layer, method, scale), []).extend(values)
    return _summary(top1, described, changes)


def description_top1(searcher: AtlasSearcher) -> float:
    """Return the share of logits units, in percent, whose best label over the model's own labels is their own."""
    found = searcher.describe(LOGITS, range(len(searcher.labels.concepts)), searcher.labels, top_k=1)
    return 100.0 * float(np.mean([unit.concepts[0].index == unit.unit for unit in found]))


def rankings(searcher: AtlasSearcher, layer: str, seed: int) -> dict[str, NDArray[np.int64]]:
    """Return every method's ranking of a layer's units for every class name, each int64 ``[K, ≥ TOP_UNITS]``."""
    atlas = searcher.atlas
    labels = np.asarray(atlas.label_embeddings)
    data = atlas.layer(layer)
    activations = np.asarray(data.activations, dtype=np.float32)
    found = {
        "random": random_ranking(len(labels), activations.shape[1], seed),
        "mean_activation": mean_activation_ranking(activations, np.asarray(atlas.predicted, np.int64), len(labels)),
    }
    for method in SEARCHES:
        hits = searcher.localize(labels, [layer], top_k=TOP_UNITS, method=method)
        found[method] = np.array([[hit.unit for hit in query.units] for query in hits], dtype=np.int64)
    return found


def _align(
    model: TargetModel,
    clip: Clip,
    probe: ProbeSet,
    layers: tuple[str, ...],
    seed: int,
    store: Path,
    atlases: Path,
    report: Report,
) -> Atlas:
    config = AlignmentConfig(layers=layers)
    config = replace(config, encoder=replace(config.encoder, seed=seed))
    atlas_id = align_model(
        model, clip, probe, config, store=store, atlas_root=atlases,
        progress=lambda stage, done, total, _loss: report(f"{model.name} seed {seed}: {stage}", done, total),
    )  # fmt: skip
    return Atlas.open(atlases, atlas_id, model_weights_sha256=model.weights_sha256)


def _preprocessed(subject: Subject) -> Tensor:
    images = subject.images.load(0, len(subject.images.names))
    return torch.stack([subject.model.preprocess(image) for image in images])


def _classes(subject: Subject, layer: str, settings: EvaluationSettings) -> list[int]:
    total = int(subject.labels.max()) + 1
    wanted = total if layer == subject.penultimate else min(total, settings.middle_classes)
    return [index * total // wanted for index in range(wanted)]


def _summary(top1: float, described: list[float], changes: dict[tuple[str, str, str], list[Change]]) -> dict[str, Any]:
    layers: dict[str, Any] = {LOGITS: {"description_top1": float(np.mean(described))}}
    for (layer, method, scale), values in changes.items():
        target, others = ([getattr(value, who) for value in values] for who in ("target", "others"))
        mean = {"target": float(np.mean(target)), "others": float(np.mean(others))}
        layers.setdefault(layer, {"localization": {}})["localization"].setdefault(method, {})[scale] = mean
    return {"held_out_top1": top1, "layers": layers}
