"""Train a demo target model: first on every concept, then on the classes it will serve.

Pretraining on all concepts gives features that carry over to drawing styles never seen; the served head knows only
the classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from miclip import progress
from miclip.bundles.augment import Augment
from miclip.progress import Progress, Report, StageKind

BATCH = 128
IMAGE_SIZE = 64
"""Edge of the target models' input in pixels."""
TEMPERATURE = 2.0
"""Softens the teacher's predictions in distillation."""


@dataclass(frozen=True)
class Drawings:
    """Drawings with what they show.

    Attributes:
        pixels: uint8 ``[N, 4, S, S]`` RGBA.
        labels: int64 ``[N]``.
    """

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Stage:
    """One training stage: ``images`` seen in all, at a peak learning rate of ``rate``."""

    images: int
    rate: float


def training_views(size: int) -> Augment:
    """The wide augmentation of training."""
    return Augment(size, erase=0.25)


def train_target(
    build: Callable[[int], nn.Module],
    concepts: Drawings,
    classes: Drawings,
    stages: tuple[Stage, ...],
    checkpoint: Path,
    report: Report,
    seed: int = 0,
    teacher: nn.Module | None = None,
) -> nn.Module:
    """Return a trained model in evaluation mode; an interrupted run goes on from ``checkpoint``.

    Args:
        build: Builds an untrained model of so many outputs.
        concepts: Pretraining set, labelled by concept.
        classes: Training set of the served head, labelled by class.
        stages: Pretraining and fine-tuning, and distillation where there is a teacher.
        checkpoint: File that holds the state of the run.
        report: Told of progress, in images.
        seed: Seed of initialisation, sampling and views.
        teacher: A model of the same classes; distillation follows what it says of *every* drawing.
    """
    torch.manual_seed(seed)
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else {"stage": 0}
    model = build(int(concepts.labels.max()) + 1)
    if state["stage"] == 0:
        _fit(model, concepts, stages[0], _Run(StageKind.PRETRAIN, 0, seed, checkpoint, report), state)
        state = {"stage": 1, "model": model.state_dict()}
        torch.save(state, checkpoint)
    served = build(int(classes.labels.max()) + 1)
    if state["stage"] == 1:
        served.load_state_dict(_fitting(state["model"], served), strict=False)
        _fit(served, classes, stages[1], _Run(StageKind.FINE_TUNE, 1, seed + 1, checkpoint, report), state)
        state = {"stage": 2, "model": served.state_dict()}
        torch.save(state, checkpoint)
    served.load_state_dict(state["model"])
    if teacher is not None:
        _fit(
            served, concepts, stages[2], _Run(StageKind.DISTIL, 2, seed + 2, checkpoint, report), state, teacher.eval()
        )
    return served.eval()


def _fitting(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors that fit ``model``: all but the head, whose classes are others."""
    own = model.state_dict()
    return {key: value for key, value in state.items() if own[key].shape == value.shape}


@dataclass(frozen=True)
class _Run:
    """Kind and place of a stage, its seed, where its state goes, and who is told."""

    kind: StageKind
    index: int
    seed: int
    checkpoint: Path
    report: Report


def _fit(
    model: nn.Module,
    data: Drawings,
    stage: Stage,
    run: _Run,
    state: dict[str, Any],
    teacher: nn.Module | None = None,
) -> None:
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}])
    steps = stage.images // BATCH
    start = state.get("step", 0)
    if start:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    generator = torch.Generator().manual_seed(run.seed * 1_000_003 + start)
    views = training_views(IMAGE_SIZE)
    running = float("nan")
    for step in range(start, steps):
        rate = stage.rate * min(1.0, (step + 1) / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = torch.randint(len(data.labels), (BATCH,), generator=generator)
        images = (views(data.pixels[chosen], generator) - 0.5) / 0.5
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        if teacher is None:
            loss = cross_entropy(logits.float(), data.labels[chosen], label_smoothing=0.1)
        else:
            loss = _distillation(logits.float(), teacher, images)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0 or step + 1 == steps:
            run.report(Progress(progress.Stage(run.kind), (step + 1) * BATCH, steps * BATCH, running))
        if step % 500 == 499:
            torch.save({"stage": run.index, "step": step + 1, "model": model.state_dict(),
                        "optimizer": optimizer.state_dict()}, run.checkpoint)  # fmt: skip


def _distillation(logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
    """Cross-entropy with the teacher's softened prediction (Hinton et al. 2015)."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        taught = teacher(images.contiguous(memory_format=torch.channels_last)).float()
    wanted = (taught.clone() / TEMPERATURE).softmax(dim=1)
    return TEMPERATURE**2 * cross_entropy(logits / TEMPERATURE, wanted)


@torch.no_grad()
def top1(model: nn.Module, views: Tensor, labels: Tensor) -> float:
    """Return the share of views, float32 ``[N,3,H,W]`` in 0..1, whose strongest logit is their label."""
    model.eval()
    hits = [
        (model((batch - 0.5) / 0.5).argmax(dim=1) == wanted).float().sum().item()
        for batch, wanted in zip(views.split(256), labels.split(256), strict=True)
    ]
    return sum(hits) / len(labels)
