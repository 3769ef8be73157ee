"""Training of dictionaries: what is planted is found, training goes on where it stopped, quality is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from miclip.dictionaries import SaeRecipe, train_sae
from miclip.dictionaries.recipe import Architecture
from miclip.dictionaries.train import geometric_median
from miclip.errors import InvalidInput
from miclip.models.sae import Activation, Normalisation, SparseAutoencoder
from miclip.progress import Progress, Report

D, TRUE = 24, 32


def planted(rows: int = 8192) -> tuple[Tensor, Tensor]:
    """Vectors that are sums of three of 32 known directions, and the directions."""
    rng = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(TRUE, D, generator=rng), dim=1)
    chosen = torch.rand(rows, TRUE, generator=rng).topk(3, dim=1).indices
    strengths = torch.zeros(rows, TRUE).scatter(1, chosen, 1 + torch.rand(rows, 3, generator=rng))
    return strengths @ directions, directions


def recipe(architecture: Architecture, **changes: object) -> SaeRecipe:
    chosen = {"features": 48, "k": 3, "steps": 900, "batch": 512, "learning_rate": 5e-3,
              "normalisation": Normalisation.NONE, "dead_after": 5000, **changes}  # fmt: skip
    return SaeRecipe(architecture=architecture, **chosen)  # type: ignore[arg-type]


def explained(sae: SparseAutoencoder, vectors: Tensor) -> float:
    error = (sae.decode(sae.encode(vectors)) - vectors).square().sum()
    return float(1 - error / (vectors - vectors.mean(dim=0)).square().sum())


@pytest.mark.parametrize("architecture", list(Architecture))
def test_planted_directions_are_found_and_the_codes_are_sparse(architecture: Architecture) -> None:
    vectors, directions = planted()
    config, tensors = train_sae(vectors, recipe(architecture, sparsity=3.0 if architecture == "relu" else 1.0))
    sae = SparseAutoencoder("d", "layer", config, tensors)
    codes = sae.encode(vectors).values
    assert explained(sae, vectors) > 0.9
    assert 1.5 < float((codes > 0).sum(dim=1).float().mean()) < 8
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48))
    found = (normalize(sae.W_dec, dim=1) @ directions.T).max(dim=0).values
    assert float((found > 0.9).float().mean()) > 0.8
    kind = {Architecture.TOPK: Activation.TOPK, Architecture.RELU: Activation.RELU}
    assert config.activation is kind.get(architecture, Activation.JUMPRELU)


def test_a_stopped_training_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    vectors, _ = planted(2048)
    chosen = recipe(Architecture.TOPK, steps=700)
    _, whole = train_sae(vectors, chosen)

    class Stop(Exception): ...

    def stop(at: int) -> Report:
        def report(now: Progress) -> None:
            if now.done >= at:
                raise Stop

        return report

    mark = tmp_path / "half.safetensors"
    with pytest.raises(Stop):
        train_sae(vectors, chosen, checkpoint=mark, report=stop(550))
    seen: list[int] = []
    _, resumed = train_sae(vectors, chosen, checkpoint=mark, report=lambda now: seen.append(now.done))
    assert seen[0] == 550  # it began at 500
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor)


def test_features_that_never_fire_are_brought_to_life() -> None:
    vectors, _ = planted()
    shares = []
    for weight in (0.0, 1 / 32):
        chosen = recipe(Architecture.TOPK, features=192, aux_weight=weight, dead_after=20_000, learning_rate=0.03)
        config, tensors = train_sae(vectors, chosen)
        codes = SparseAutoencoder("d", "layer", config, tensors).encode(vectors).values
        shares.append(float((codes > 0).any(dim=0).float().mean()))
    assert shares[1] > shares[0]


def test_the_geometric_median_is_not_moved_by_an_outlier() -> None:
    points = torch.cat([torch.randn(99, 2, generator=torch.Generator().manual_seed(0)), torch.full((1, 2), 1e4)])
    assert points.mean(dim=0).norm() > 100
    assert geometric_median(points).norm() < 0.5


@pytest.mark.parametrize(("change", "field"), [({"k": 0}, "k"), ({"k": 99}, "k"), ({"steps": 0}, "steps")])
def test_a_recipe_that_cannot_work_names_the_value_and_the_range(change: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"{field} is .* is allowed"):
        train_sae(torch.randn(16, D), recipe(Architecture.TOPK, **change))
