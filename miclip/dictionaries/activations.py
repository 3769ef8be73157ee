"""The activation functions of a training: codes that are sparse, and through which a gradient passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from miclip.dictionaries.recipe import Architecture, SaeRecipe

_BANDWIDTH = 0.05  # of the kernel that stands for a step's derivative, in units of a normalised pre-activation


def sparse_codes(before: Tensor, recipe: SaeRecipe, threshold: Tensor) -> Tensor:
    """Return the codes ``[B, F]`` of pre-activations, float32 ``[B, F]``.

    Args:
        before: ``W_enc (x - b_dec) + b_enc``.
        recipe: Says which codes stay.
        threshold: Learned thresholds ``[F]`` of ``JUMPRELU``.
    """
    match recipe.architecture:
        case Architecture.TOPK:
            best = before.topk(recipe.k, dim=-1)
            return torch.zeros_like(before).scatter(-1, best.indices, best.values.relu())
        case Architecture.BATCHTOPK:
            flat = before.relu().flatten()
            best = flat.topk(min(recipe.k * len(before), flat.numel()))
            return torch.zeros_like(flat).scatter(0, best.indices, best.values).view_as(before)
        case Architecture.JUMPRELU:
            codes: Tensor = _Jump.apply(before.relu(), threshold)
            return codes
        case _:
            return before.relu()


def sparsity_penalty(codes: Tensor, before: Tensor, recipe: SaeRecipe, threshold: Tensor) -> Tensor:
    """Return the penalty of ``JUMPRELU`` (share of features above threshold) or ``RELU`` (mean code); else 0."""
    if recipe.architecture is Architecture.JUMPRELU:
        above: Tensor = _Step.apply(before, threshold)
        return recipe.sparsity * above.mean()
    if recipe.architecture is Architecture.RELU:
        return recipe.sparsity * codes.mean()
    return codes.new_zeros(())


def _window(before: Tensor, threshold: Tensor) -> Tensor:
    return ((before - threshold).abs() < _BANDWIDTH / 2).to(before.dtype) / _BANDWIDTH


class _Jump(torch.autograd.Function):
    """``a·H(a - θ)`` with the pseudo-derivative of Rajamanoharan et al. 2024 for ``θ``."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(before, threshold)
        return before * (before > threshold)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        before, threshold = ctx.saved_tensors
        to_threshold = -threshold * _window(before, threshold) * gradient
        return gradient * (before > threshold), to_threshold.sum(dim=0)


class _Step(torch.autograd.Function):
    """``H(a - θ)``, differentiable in ``θ`` only."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(before, threshold)
        return (before > threshold).to(before.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        before, threshold = ctx.saved_tensors
        return None, (-_window(before, threshold) * gradient).sum(dim=0)
