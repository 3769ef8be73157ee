"""Training a sparse autoencoder on activation vectors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from miclip.dictionaries.activations import sparse_codes, sparsity_penalty
from miclip.dictionaries.checkpoint import Checkpoint
from miclip.dictionaries.recipe import Architecture, SaeRecipe
from miclip.models.sae import Activation, SaeConfig, normalise
from miclip.progress import Progress, Report, Stage, StageKind, silent

_ADAM_EPSILON = 6.25e-10
_MEDIAN_VECTORS, _MEDIAN_STEPS = 32_768, 100
_START_THRESHOLD = 0.1
_SAVE_EVERY = 500


def train_sae(
    vectors: Tensor,
    recipe: SaeRecipe,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    report: Report = silent,
) -> tuple[SaeConfig, dict[str, Tensor]]:
    """Train a dictionary by the recipe of Gao et al. 2024.

    The loss is the mean squared error over the variance, plus ``aux_weight`` times the error of the reconstruction of
    that error by dead features (AuxK). Decoder rows start as the encoder's columns and keep length 1: the gradient
    along them is removed. ``b_dec`` starts as the geometric median.

    Args:
        vectors: float ``[N, d]``; may be a memory map.
        recipe: See :class:`SaeRecipe`.
        checkpoint: File to go on from and to save to, every 500 steps.
        device: Torch device of the training.
        report: Told of progress.

    Returns:
        Configuration and tensors of a :class:`SparseAutoencoder`, on the CPU.

    Raises:
        InvalidInput: the recipe asks for values that cannot work.
    """
    recipe = recipe.resolved(vectors.shape[1])
    trainer = _Trainer(vectors, recipe, device)
    saved = Checkpoint(checkpoint, recipe) if checkpoint else None
    start = saved.restore(trainer.optimizer, trainer.tensors) if saved else 0
    for step in range(start, recipe.steps):
        loss = trainer.step(step)
        if step % 50 == 49 or step + 1 == recipe.steps:
            report(Progress(Stage(StageKind.DICTIONARY), step + 1, recipe.steps, loss))
        if saved and (step + 1) % _SAVE_EVERY == 0:
            saved.save(step + 1, trainer.optimizer, trainer.tensors)
    return trainer.finished()


class _Trainer:
    def __init__(self, vectors: Tensor, recipe: SaeRecipe, device: str) -> None:
        self._vectors, self._recipe, self._device = vectors, recipe, device
        generator = torch.Generator().manual_seed(recipe.seed)
        rows = torch.randperm(len(vectors), generator=generator)[:_MEDIAN_VECTORS].sort().values
        sample = self._normalised(rows)
        directions = functional.normalize(
            torch.randn(recipe.features, vectors.shape[1], generator=generator), dim=1
        ).to(device)
        self._variance = (sample - sample.mean(dim=0)).square().mean().clamp_min(1e-12)
        self.tensors = {
            "W_enc": directions.T.clone(), "b_enc": torch.zeros(recipe.features, device=device),
            "W_dec": directions.clone(), "b_dec": geometric_median(sample),
            "threshold": torch.full((recipe.features,), _START_THRESHOLD, device=device),
            "silent": torch.zeros(recipe.features, dtype=torch.int64, device=device),
            "least": torch.zeros((), device=device),
        }  # fmt: skip
        learned = ["W_enc", "b_enc", "W_dec", "b_dec"]
        if recipe.architecture is Architecture.JUMPRELU:
            learned.append("threshold")
        for name in learned:
            self.tensors[name].requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.tensors[name] for name in learned], eps=_ADAM_EPSILON)

    def step(self, step: int) -> float:
        recipe, tensors = self._recipe, self.tensors
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, 5 * (1 - step / recipe.steps), (step + 1) / 100)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        rows = torch.randint(len(self._vectors), (recipe.batch,), generator=generator).sort().values
        x = self._normalised(rows)
        before = (x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
        codes = sparse_codes(before, recipe, tensors["threshold"])
        reconstruction = codes @ tensors["W_dec"] + tensors["b_dec"]
        loss = (reconstruction - x).square().mean() / self._variance
        loss = loss + self._dead_features(before, (x - reconstruction).detach())
        loss = loss + sparsity_penalty(codes, before, recipe, tensors["threshold"])
        self.optimizer.zero_grad()
        loss.backward()
        _remove_parallel(tensors["W_dec"])
        self.optimizer.step()
        with torch.no_grad():
            tensors["W_dec"].copy_(functional.normalize(tensors["W_dec"], dim=1))
            tensors["threshold"].clamp_(min=0.0)
            self._watch(codes)
        return loss.item()

    def _dead_features(self, before: Tensor, error: Tensor) -> Tensor:
        """AuxK: what the strongest dead features make of the error, over its variance."""
        dead = self.tensors["silent"] > self._recipe.dead_after
        count = min(int(dead.sum()), self._recipe.aux_k)
        if not count or not self._recipe.aux_weight:
            return error.new_zeros(())
        best = before.masked_fill(~dead, -torch.inf).topk(count, dim=-1)
        codes = torch.zeros_like(before).scatter(-1, best.indices, best.values.relu())
        missed = (codes @ self.tensors["W_dec"] - error).square().mean() / error.square().mean().clamp_min(1e-12)
        return self._recipe.aux_weight * missed

    def _watch(self, codes: Tensor) -> None:
        fired = (codes > 0).any(dim=0)
        self.tensors["silent"].add_(len(codes)).masked_fill_(fired, 0)
        if self._recipe.architecture is Architecture.BATCHTOPK and bool(fired.any()):
            least = codes[codes > 0].min()
            kept = self.tensors["least"]
            kept.copy_(least if not bool(kept) else 0.99 * kept + 0.01 * least)

    def _normalised(self, rows: Tensor) -> Tensor:
        vectors = torch.as_tensor(self._vectors[rows]).float().to(self._device)
        return normalise(vectors, self._recipe.normalisation)[0]

    def finished(self) -> tuple[SaeConfig, dict[str, Tensor]]:
        recipe = self._recipe
        names = ["W_enc", "b_enc", "W_dec", "b_dec"]
        activation = {Architecture.TOPK: Activation.TOPK, Architecture.RELU: Activation.RELU}.get(
            recipe.architecture, Activation.JUMPRELU
        )
        tensors = {name: self.tensors[name].detach().cpu() for name in names}
        if activation is Activation.JUMPRELU:
            batch_wide = recipe.architecture is Architecture.BATCHTOPK
            threshold = self.tensors["threshold"].detach()
            tensors["threshold"] = (
                (self.tensors["least"].expand_as(threshold) if batch_wide else threshold).cpu().clone()
            )
        config = SaeConfig(
            activation, k=recipe.k if activation is Activation.TOPK else 0, normalisation=recipe.normalisation,
            class_token_only=recipe.class_token_only,
        )  # fmt: skip
        return config, tensors


def geometric_median(vectors: Tensor) -> Tensor:
    """Return the point ``[d]`` with the least sum of distances to ``vectors [N, d]`` (Weiszfeld's algorithm)."""
    median = vectors.mean(dim=0)
    for _ in range(_MEDIAN_STEPS):
        weights = 1 / (vectors - median).norm(dim=1).clamp_min(1e-8)
        moved = (weights[:, None] * vectors).sum(dim=0) / weights.sum()
        if bool((moved - median).norm() < 1e-6 * (1 + median.norm())):
            return moved
        median = moved
    return median


def _remove_parallel(decoder: Tensor) -> None:
    """Take out of the decoder's gradient what would only change its rows' lengths."""
    if decoder.grad is not None:
        rows = decoder.detach()
        decoder.grad -= (decoder.grad * rows).sum(dim=1, keepdim=True) * rows
