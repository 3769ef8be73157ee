"""Promises of attributions at one point and along a path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from miclip.models.attribution import attribute
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import LOGITS, TargetModel


def target(*after: nn.Module) -> TargetModel:
    """Three channels, pooled, then ``after``: units are the colours of the image."""
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *after)
    preprocessing = Preprocessing(4, resize="squash", interpolation="bilinear")
    return TargetModel("toy", network, labels=["a", "b"], modules=["0"], preprocessing=preprocessing)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5


class Saturating(nn.Module):
    """``logit_a = Σ min(x_i, 0.4)``: flat at the activations as they are, steep on the way there."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.clamp(max=0.4).sum(dim=1)
        return torch.stack([total, torch.zeros_like(total)], dim=1)


def test_where_a_layer_saturates_the_path_sees_what_the_point_does_not(images: Tensor) -> None:
    model = target(Saturating())
    assert not attribute(model, images, ["0"])[2]["0"].any()
    along = attribute(model, images, ["0"], points=1000)[2]["0"]
    assert torch.allclose(along, torch.full((5, 3), 0.2), atol=2e-3)  # margin = logit_a / 2; each colour adds 0.4


def test_along_the_path_attributions_sum_to_what_the_layer_adds(images: Tensor) -> None:
    torch.manual_seed(0)
    model = target(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
    logits, _, along = attribute(model, images, ["0"], points=64)
    nothing = model.forward(torch.zeros_like(images)).logits
    classes = logits.argmax(dim=1, keepdim=True)
    margins = [(x.gather(1, classes)[:, 0] - x.mean(dim=1)) for x in (logits, nothing)]
    assert torch.allclose(along["0"].sum(dim=1), margins[0] - margins[1], atol=1e-4)


def test_before_a_linear_rest_all_points_agree(images: Tensor) -> None:
    torch.manual_seed(0)
    model = target(nn.Linear(3, 2))
    one, many = (attribute(model, images, ["0", LOGITS], points) for points in (1, 7))
    for layer in ("0", LOGITS):
        assert torch.allclose(one[2][layer], many[2][layer], atol=1e-6)
        assert torch.equal(one[1][layer], many[1][layer])
    assert torch.equal(one[0], many[0])


def test_one_point_is_the_models_own_attribution(images: Tensor) -> None:
    torch.manual_seed(0)
    model = target(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    found, expected = attribute(model, images, ["0"]), model.attribute(images, ["0"])
    assert torch.equal(found[2]["0"], expected[2]["0"])
