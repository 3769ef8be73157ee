"""Interventions that resume from the edited layer, and the rankings they are fed with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from miclip.demo.architectures import emoji_resnet, emoji_vit
from miclip.evaluation.baselines import mean_activation_ranking, random_ranking
from miclip.evaluation.intervention import Laboratory, intervene
from miclip.evaluation.resume import layer_output, resume_from
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import TargetModel


@pytest.mark.parametrize(
    ("build", "layer"),
    [(emoji_resnet, "layer3"), (emoji_resnet, "layer4"), (emoji_vit, "blocks.1"), (emoji_vit, "norm")],
)
def test_the_resumed_network_gives_the_whole_networks_logits(build, layer: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network = build(7).eval()
    images = torch.randn(5, 3, 64, 64)
    rest = resume_from(network, layer)
    assert rest is not None
    with torch.inference_mode():
        assert torch.allclose(rest(layer_output(network, layer, images)), network(images), atol=1e-5)


class _Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


class _Undecided(_Skip):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("network", [_Skip(), _Undecided()])
def test_a_network_that_needs_more_than_the_layer_is_not_resumed(network: nn.Module) -> None:
    assert resume_from(network, "first") is None


class _Planted(nn.Module):
    """Channel ``c`` of the image is unit ``c``, which alone carries class ``c``."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.units(x)).flatten(1)


def _laboratory(whole: bool = False) -> Laboratory:
    model = TargetModel(
        "planted", _Planted(), labels=("red", "green", "blue"), modules=("units",),
        preprocessing=Preprocessing(8, resize="squash"),
    )  # fmt: skip
    labels = torch.arange(3).repeat(4)
    images = 0.6 + torch.zeros(12, 3, 8, 8)
    images[torch.arange(12), labels] += 0.5
    laboratory = Laboratory(model, "units", images, labels, other_views=2)
    if whole:
        laboratory._rest = None
    return laboratory


@pytest.mark.parametrize("whole", [False, True])
def test_removing_a_planted_unit_removes_its_class_and_no_other(whole: bool) -> None:
    laboratory = _laboratory(whole)
    for target in range(3):
        change = laboratory.change(target, [target], 0.0)
        assert (change.target, change.others) == (-100.0, 0.0)
        assert laboratory.change(target, [(target + 1) % 3], 0.0).target == 0.0


def test_side_effects_are_reported() -> None:
    change = _laboratory().change(0, [1, 2], 0.0)
    assert (change.target, change.others) == (0.0, -100.0)


def test_intervene_takes_the_top_of_the_ranking() -> None:
    ranking = np.array([[0, 1, 2], [1, 0, 2], [0, 1, 2]])
    changes = intervene(_laboratory(), ranking, [0, 1, 2], top=1)
    assert [change.target for change in changes["scale_0"]] == [-100.0, -100.0, 0.0]
    assert [change.target for change in changes["scale_2"]] == [0.0, 0.0, -100.0]


def test_mean_activation_ranks_by_the_mean_over_the_predicted_class() -> None:
    activations = np.array([[1, 0, 5], [3, 0, 0], [0, 9, 1]], np.float32)
    ranking = mean_activation_ranking(activations, np.array([0, 0, 1]), 2)
    assert ranking.tolist() == [[2, 0, 1], [1, 2, 0]]


def test_random_rankings_differ_by_seed_and_class_and_hold_every_unit() -> None:
    ranking = random_ranking(4, 50, seed=0)
    assert all(sorted(row) == list(range(50)) for row in ranking.tolist())
    assert not np.array_equal(ranking, random_ranking(4, 50, seed=1))
    assert not np.array_equal(ranking[0], ranking[1])
