"""The neuron encoder: the one trained part of MICLIP, a linear map from a layer's activations into CLIP space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from miclip.alignment.loss import dual_loss
from miclip.progress import Progress, Report, Stage, StageKind, silent

Float32 = NDArray[np.float32]
INITIAL_SCALE = 0.02
"""Of the random start: small, so that the filters of narrow layers are what was learned and not where they began."""


@dataclass(frozen=True)
class NeuronEncoder:
    """``E_n``: linear, ``E_n(αx + βy) = αE_n(x) + βE_n(y)``.

    Training standardises activations; the scale is folded into ``weight``, so nothing but a matrix is left.

    Attributes:
        weight: float32 ``[D, d]``.
        centre: Mean activation of the probe set, float32 ``[d]``. An *image* is embedded by its deviation from it,
            ``z = E_n(a - centre)``; a *unit* by ``E_n(e_i)``, which the centre does not enter.
        loss: Mean training loss of the last tenth of the steps, in nats.
    """

    weight: Float32
    centre: Float32
    loss: float

    def __call__(self, activations: Float32) -> Float32:
        """Return ``E_n(a)`` for activations float32 ``[N, d]``: float32 ``[N, D]``, not normalised."""
        return activations @ self.weight.T

    def embed_images(self, activations: Float32) -> Float32:
        """Return normalised ``E_n(a - centre)`` for activations float32 ``[N, d]``: float32 ``[N, D]``."""
        embedded = self(activations - self.centre)
        return embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True)
class EncoderSettings:
    """How an encoder is trained.

    Attributes:
        output_weight: Weight of the loss against the predicted label's text.
        input_weight: Weight of the loss against the image's embedding.
        steps: Optimizer steps.
        batch: Rows per step, at most as many as there are.
        learning_rate: Peak of the cosine schedule.
        weight_decay: AdamW's, on the standardised weights.
        temperature: Contrastive temperature.
        seed: Seed of initialisation and of the order of the rows.
    """

    output_weight: float = 1.0
    input_weight: float = 0.5
    steps: int = 200
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    temperature: float = 0.1
    seed: int = 0


def train_encoder(
    activations: Float32,
    predicted: NDArray[np.int64],
    label_embeddings: Float32,
    image_embeddings: Float32,
    sources: NDArray[np.int64],
    settings: EncoderSettings,
    *,
    device: str = "cpu",
    report: Report = silent,
) -> NeuronEncoder:
    """Train ``E_n`` on one layer.

    Texts and images are mean-centred, each in its own cone (the modality gap), before they are compared.

    Args:
        activations: float32 ``[N, d]``.
        predicted: The label the target model predicted for each row, int64 ``[N]``.
        label_embeddings: ``E_c`` of every label, normalised, float32 ``[K, D]``.
        image_embeddings: ``E_i`` of every row, normalised, float32 ``[N, D]``.
        sources: Image that every row is a view of, int64 ``[N]``: no view of an image counts against another of it.
        settings: See :class:`EncoderSettings`.
        device: Torch device of the training.
        report: Told of progress, as that of an encoder of no layer in particular.

    Returns:
        The encoder, with the standardisation folded into its weight.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    centre, spread = activations.mean(axis=0), activations.std(axis=0)
    # A unit that never moves tells nothing; dividing by its zero spread would make it infinitely loud.
    inverse = np.where(spread > 1e-6 * max(float(spread.max()), 1e-12), 1.0 / np.maximum(spread, 1e-12), 0.0)
    inputs = torch.from_numpy((activations - centre) * inverse).float().to(device)
    texts = _centred(label_embeddings, device)
    images = _centred(image_embeddings, device)
    labels, groups = torch.from_numpy(predicted).to(device), torch.from_numpy(sources).to(device)
    weight = INITIAL_SCALE * torch.randn(texts.shape[1], inputs.shape[1], generator=generator).to(device)
    weight.requires_grad_(True)
    optimizer = torch.optim.AdamW([weight], lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    tail: list[float] = []
    for step, chosen in zip(range(settings.steps), _batches(len(inputs), settings.batch, generator), strict=False):
        rows = chosen.to(device)
        embedded = normalize(inputs[rows] @ weight.T, dim=1)
        loss = dual_loss(
            embedded, texts[labels[rows]], images[rows], labels[rows], groups[rows], 1 / settings.temperature,
            output_weight=settings.output_weight, input_weight=settings.input_weight,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step >= settings.steps - max(1, settings.steps // 10):
            tail.append(loss.item())
        if step % 20 == 19 or step + 1 == settings.steps:
            report(Progress(Stage(StageKind.ENCODER), step + 1, settings.steps, loss.item()))
    folded = weight.detach().cpu().numpy() * inverse[None, :]
    return NeuronEncoder(folded.astype(np.float32), centre.astype(np.float32), float(np.mean(tail)))


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield rows without end: every epoch in a new order, no row twice, without its last, smaller batch."""
    size = min(size, count)
    while True:
        yield from torch.randperm(count, generator=generator)[: count // size * size].split(size)


def _centred(embeddings: Float32, device: str) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32)).to(device)
    return normalize(tensor - tensor.mean(dim=0), dim=1)
