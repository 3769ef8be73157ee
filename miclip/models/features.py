"""A dictionary in the forward pass of a target model: which positions of a layer's output it reads and writes."""

from __future__ import annotations

import torch
from torch import Tensor

from miclip.models.sae import SparseAutoencoder
from miclip.steering.apply import Codes, apply_feature_edits
from miclip.steering.edits import LayerEdits


def encode_features(x: Tensor, sae: SparseAutoencoder, unit_axis: int) -> Codes:
    """Return the codes ``[B, ..., F]`` at the positions of a layer's output that the dictionary reads."""
    return sae.encode(read(x, sae).movedim(unit_axis, -1))


def edit_features(x: Tensor, edits: LayerEdits, sae: SparseAutoencoder, unit_axis: int) -> tuple[Tensor, Tensor]:
    """Return ``x`` after edits of features, and the edited rows' codes; see ``apply_feature_edits``."""
    changed, codes = apply_feature_edits(read(x, sae), edits, sae, unit_axis)
    return torch.cat([changed, x[:, 1:]], dim=1) if sae.config.class_token_only else changed, codes


def feature_gain(codes: Codes, gain: float) -> Tensor:
    """Return gains ``[B, 1, ..., F]``, one a feature for all positions, that a gradient can be taken of."""
    shape = [codes.values.shape[0], *[1] * (codes.values.ndim - 2), codes.values.shape[-1]]
    return torch.full(shape, gain, dtype=codes.values.dtype, device=codes.values.device, requires_grad=True)


def scale_features(x: Tensor, codes: Codes, gain: Tensor, sae: SparseAutoencoder, unit_axis: int) -> Tensor:
    """Return ``x`` with its codes multiplied by ``gain``, the dictionary's error preserved."""
    change = sae.directions((gain - 1) * codes.values, codes.scale).movedim(-1, unit_axis)
    return added(x, change.to(x.dtype), sae)


def read(x: Tensor, sae: SparseAutoencoder) -> Tensor:
    """Return the part of a layer's output that the dictionary reads: all of it, or the class token."""
    return x[:, :1] if sae.config.class_token_only else x


def added(x: Tensor, change: Tensor, sae: SparseAutoencoder) -> Tensor:
    """Return ``x`` plus a change of the part that the dictionary reads."""
    return torch.cat([x[:, :1] + change, x[:, 1:]], dim=1) if sae.config.class_token_only else x + change
