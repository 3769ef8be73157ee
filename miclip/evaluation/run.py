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
from miclip.evaluation.intervention import Change, Laboratory, intervene
from miclip.evaluation.methods import LayerMethods, last_weight
from miclip.evaluation.summary import summarise
from miclip.models.clip import Clip
from miclip.models.target import LOGITS, TargetModel
from miclip.retrieval import AtlasSearcher

TOP_UNITS = 5
TOP_CLASSES = 5

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
        ``{"targets": {NAME: {"held_out_top1", "layers": {LAYER: {"description_top1", "labels": {METHOD: share},
        "localization": {METHOD: {"scale_2": {"target", "others", "specificity", …_interval}, "scale_0": {…}}}}}}}}``,
        accuracies, shares and changes in percentage points. See ``label_accuracy`` and ``summarise``.
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
    changes: dict[tuple[str, str, str], list[list[Change]]] = {}
    labels: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="miclip-evaluate-") as atlases:
        for seed in settings.seeds:
            atlas = _align(model, clip, probe(seed), layers, seed, store, Path(atlases), report)
            searcher = AtlasSearcher(atlas)
            for layer in layers:
                methods = LayerMethods(searcher, layer, _weight(subject, layer), seed)
                for method, share in label_accuracy(methods, layer).items():
                    labels.setdefault((layer, method), []).append(share)
                if layer in laboratories:
                    classes, stage = _classes(subject, layer, settings), f"{model.name} {layer} seed {seed}"
                    found = _intervene(laboratories[layer], methods, classes, stage, report)
                    for key, values in found.items():
                        changes.setdefault((layer, *key), []).append(values)
    return _summary(top1, labels, changes)


def label_accuracy(methods: LayerMethods, layer: str) -> dict[str, float]:
    """Return the share of right labels by labelling method, in percent.

    Of the logits, a label is right when it is the unit's own class; elsewhere, when it is one of the five classes that
    the unit drives most (by class-mean attribution). ``default`` is miclip's own label; below the logits it counts the
    units that it does not abstain on.
    """
    labels = methods.labels()
    wanted = np.arange(len(labels["filter"]))[:, None] if layer == LOGITS else methods.driven(TOP_CLASSES)
    right = {name: (found[:, None] == wanted).any(axis=1) for name, found in labels.items()}
    default = right[methods.default]
    kept = np.ones(len(default), bool) if layer == LOGITS else ~methods.abstained()
    shares = {name: 100.0 * float(hits.mean()) for name, hits in right.items()}
    return {"default": 100.0 * float(default[kept].mean()) if kept.any() else 0.0, **shares}


def _intervene(
    laboratory: Laboratory, methods: LayerMethods, classes: list[int], stage: str, report: Report
) -> dict[tuple[str, str], list[Change]]:
    rankings = methods.rankings(TOP_UNITS)
    total, done, found = len(rankings) * len(classes), 0, {}

    def tick() -> None:
        nonlocal done
        done += 1
        report(stage, done, total)

    for method, ranking in rankings.items():
        for scale, values in intervene(laboratory, ranking[classes], [[k] for k in classes], TOP_UNITS, tick).items():
            found[method, scale] = values
    return found


def _weight(subject: Subject, layer: str) -> NDArray[np.float32] | None:
    if layer != subject.penultimate:
        return None
    return last_weight(subject.model.module, len(subject.model.labels), subject.model.layer_sizes[layer])


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


def _summary(
    top1: float, labels: dict[tuple[str, str], list[float]], changes: dict[tuple[str, str, str], list[list[Change]]]
) -> dict[str, Any]:
    layers: dict[str, Any] = {}
    for (layer, method), shares in labels.items():
        layers.setdefault(layer, {"labels": {}})["labels"][method] = float(np.mean(shares))
    for (layer, method, scale), seeds in changes.items():
        layers[layer].setdefault("localization", {}).setdefault(method, {})[scale] = summarise(seeds)
    layers[LOGITS]["description_top1"] = layers[LOGITS]["labels"]["default"]
    return {"held_out_top1": top1, "layers": layers}
