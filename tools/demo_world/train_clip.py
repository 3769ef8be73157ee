"""Train the demo's OpenCLIP model: an EfficientNet-Lite0 image tower against the locked MiniLM text tower.

The text side of the contrastive loss is not the batch but *every* concept (one paraphrase each, drawn anew at every
step): with a locked text tower its embeddings are computed once, so thousands of negatives cost one matrix product.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from miclip.progress import Progress, Report, Stage, StageKind
from tools.demo_world.concepts import Concept
from tools.demo_world.train_target import Drawings, training_views

BATCH = 128
IMAGE_SIZE = 64
PARAPHRASES = 8


def paraphrases(concept: Concept, rng: random.Random) -> list[str]:
    """Return ``PARAPHRASES`` ways to write the concept: its name, templates around it, and its keywords."""
    keywords = list(concept.keywords) or [concept.name]
    pair = rng.sample(keywords, min(2, len(keywords)))
    return [
        concept.name, concept.name, concept.name, f"a picture of a {concept.name}", f"an emoji of {concept.name}",
        f"{concept.name}, {keywords[0]}", f"{concept.name}, {rng.choice(keywords)}", " ".join(pair),
    ]  # fmt: skip


def train_image_tower(
    tower: nn.Module,
    drawings: Drawings,
    texts: Tensor,
    images: int,
    checkpoint: Path,
    report: Report,
    seed: int = 0,
) -> float:
    """Train ``tower`` in place; goes on from ``checkpoint`` when there is one.

    Args:
        tower: Image tower, ``[B,3,H,W] → [B,D]``.
        drawings: Labelled by concept.
        texts: Normalised text embeddings, float32 ``[C, PARAPHRASES, D]``.
        images: Images to see in all.
        checkpoint: File that holds the state of the run.
        report: Told of progress, in images.
        seed: Seed of sampling and views.

    Returns:
        The natural logarithm of the logit scale; ``tower`` is left in evaluation mode.
    """
    tower.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scale = nn.Parameter(torch.tensor(math.log(20.0)))
    head = {id(p) for p in tower.head.parameters()}  # type: ignore[union-attr]
    groups = [
        {"params": [p for p in tower.parameters() if id(p) not in head], "peak": 6e-4, "weight_decay": 0.02},
        {"params": list(tower.head.parameters()), "peak": 2e-3, "weight_decay": 0.02},  # type: ignore[union-attr]
        {"params": [scale], "peak": 2e-3, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        tower.load_state_dict(state["tower"])
        optimizer.load_state_dict(state["optimizer"])
        scale.data, start = state["scale"], state["step"]
    steps, running = images // BATCH, float("nan")
    generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
    views = training_views(IMAGE_SIZE)
    rows = torch.arange(texts.shape[0])
    for step in range(start, steps):
        factor = min(1.0, (step + 1) / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        chosen = torch.randint(len(drawings.labels), (BATCH,), generator=generator)
        labels = drawings.labels[chosen]
        batch = (views(drawings.pixels[chosen], generator) - 0.5) / 0.5
        embedded = normalize(tower(batch.contiguous(memory_format=torch.channels_last)), dim=-1)
        wording = torch.randint(texts.shape[1], (texts.shape[0],), generator=generator)
        logits = scale.exp() * embedded @ texts[rows, wording].T
        loss = cross_entropy(logits, labels) + _text_to_image(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        scale.data.clamp_(max=math.log(100.0))
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0 or step + 1 == steps:
            report(Progress(Stage(StageKind.CLIP), (step + 1) * BATCH, steps * BATCH, running))
        if step % 300 == 299:
            torch.save({"tower": tower.state_dict(), "optimizer": optimizer.state_dict(), "scale": scale.data,
                        "step": step + 1}, checkpoint)  # fmt: skip
    tower.eval()
    return float(scale)


def _text_to_image(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each present concept over the batch's images; images of the same concept share the target."""
    columns = logits[:, labels].T
    same = (labels[:, None] == labels[None, :]).float()
    return -(same / same.sum(1, keepdim=True) * columns.log_softmax(dim=1)).sum(1).mean()


@torch.no_grad()
def retrieval_accuracy(
    tower: nn.Module, views: Tensor, labels: Tensor, names: Tensor, ks: Sequence[int]
) -> list[float]:
    """Return top-k accuracies of views, ``[N,3,H,W]`` in 0..1, against the concepts' name embeddings ``[C,D]``."""
    ranks = []
    for batch, wanted in zip(views.split(256), labels.split(256), strict=True):
        scores = normalize(tower((batch - 0.5) / 0.5), dim=-1) @ names.T
        ranks.append((scores > scores.gather(1, wanted[:, None])).sum(1))
    rank = torch.cat(ranks)
    return [(rank < k).float().mean().item() for k in ks]
