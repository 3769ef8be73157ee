"""What a dictionary keeps of its layer, and how sparsely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from miclip.models.sae import SparseAutoencoder
from miclip.models.target import TargetModel
from miclip.steering.edits import Edit, Op, compile_edits

_BATCH = 8192


@dataclass(frozen=True)
class Quality:
    """Measured on images that the dictionary was not trained on.

    Attributes:
        explained_variance: ``1 - Σ‖x - x̂‖² / Σ‖x - mean‖²`` over all positions, at most 1.
        l0: Mean number of positive codes of a position.
        live_share: Share of features with a positive code somewhere, 0 to 1.
        agreement: Share of images whose prediction stays the same with the reconstruction in the layer's place, 0 to 1.
    """

    explained_variance: float
    l0: float
    live_share: float
    agreement: float


def measure(sae: SparseAutoencoder, vectors: Tensor, model: TargetModel, images: Tensor) -> Quality:
    """Measure a dictionary.

    Args:
        sae: The dictionary, among the dictionaries of ``model``.
        vectors: Activation vectors of its layer, float ``[N, d]``.
        model: The target model.
        images: Preprocessed images, float32 ``[B, 3, S, S]``.
    """
    mean = torch.stack([part.double().mean(dim=0) * len(part) for part in vectors.split(_BATCH)]).sum(0) / len(vectors)
    error, total, positive = 0.0, 0.0, 0.0
    alive = torch.zeros(sae.features, dtype=torch.bool)
    for part in vectors.split(_BATCH):
        x = part.float().to(sae.W_dec.device)
        codes = sae.encode(x)
        error += float((sae.decode(codes) - x).double().square().sum())
        total += float((x.double().cpu() - mean).square().sum())
        positive += float((codes.values > 0).sum())
        alive |= (codes.values > 0).any(dim=0).cpu()
    return Quality(
        explained_variance=round(1 - error / max(total, 1e-30), 4),
        l0=round(positive / len(vectors), 2),
        live_share=round(float(alive.float().mean()), 4),
        agreement=round(_agreement(sae, model, images), 4),
    )


def _agreement(sae: SparseAutoencoder, model: TargetModel, images: Tensor) -> float:
    replaced = [Edit(sae.layer, 0, Op.SCALE, 1.0, reconstruct=True)]
    same = 0
    for part in images.split(128):
        edits = compile_edits([replaced] * len(part), model.layer_sizes)
        same += int((model.forward(part).logits.argmax(1) == model.forward(part, edits=edits).logits.argmax(1)).sum())
    return same / len(images)
