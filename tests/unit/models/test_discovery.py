"""Layers and layout of a module that nobody described, found by one forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput
from miclip.models.discovery import Survey
from miclip.models.inspection import layer_shapes
from miclip.models.layers import Layout


class Permuted(nn.Module):
    """Stages of feature maps with their channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.stages = nn.ModuleList(nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12), nn.GELU()) for _ in range(3))
        self.head = nn.Linear(12, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = x + stage(x)
        return self.head(x.mean(dim=(1, 2)))


class Transformer(nn.Module):
    """Tokens with or without a class token, pooled by it or by their mean."""

    def __init__(self, *, class_token: bool, by_mean: bool) -> None:
        super().__init__()
        self.by_mean = by_mean
        self.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16)) if class_token else None
        block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 3, enable_nested_tensor=False)
        self.norm, self.classifier = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        x = self.norm(self.encoder(x))
        return self.classifier(x.mean(dim=1) if self.by_mean else x[:, 0])


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12 * 8 * 8, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 4),
    )  # fmt: skip


def test_a_chain_of_layers_is_read_behind_its_activations() -> None:
    assert Survey(chain(), 32).layers() == ("2", "5", "9")


def test_channels_that_come_last_are_seen() -> None:
    survey = Survey(Permuted(), 32)
    layers = survey.layers()
    assert layers == ("stages.0", "stages.1", "stages.2")
    assert survey.layout(layers) == Layout(channels_last=True)


@pytest.mark.parametrize(
    ("class_token", "by_mean", "layout"),
    [(True, False, Layout(True, 1)), (True, True, Layout(False, 1)), (False, True, Layout())],
)
def test_tokens_are_pooled_as_the_model_pools_them(class_token: bool, by_mean: bool, layout: Layout) -> None:
    survey = Survey(Transformer(class_token=class_token, by_mean=by_mean).eval(), 32)
    layers = survey.layers()
    assert layers == ("encoder.layers.0", "encoder.layers.1", "encoder.layers.2", "norm")
    assert survey.layout(layers) == layout


def test_layers_of_two_layouts_are_refused_by_name() -> None:
    survey = Survey(Permuted(), 32)
    named = ["patch", "stages.0", "stages.1"]
    with pytest.raises(InvalidInput, match=r"'patch' lays out its output otherwise than 'stages\.0'"):
        survey.check_layers(named, survey.layout(named))


def test_a_module_that_is_called_twice_is_no_layer_of_its_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.last = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(8, 4)
            self.second, self.third = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)

        def forward(self, images: Tensor) -> Tensor:
            x = self.act(self.second(self.act(self.first(images))))
            return self.last(self.third(x).mean(dim=(2, 3)))

    assert Survey(Twice(), 32).layers() == ("first", "second", "third")


def test_a_module_without_any_layer_says_how_to_name_some() -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(2, 3)) @ self.weight

    with pytest.raises(InvalidInput, match="miclip layers --all"):
        Survey(Opaque(), 32).layers()


def test_shapes_are_those_of_one_image_and_all_shows_what_else_can_be_named() -> None:
    shown = layer_shapes(chain(), 32, ["2", "5", "9"], Layout())
    assert [(layer.name, layer.units, layer.shape) for layer in shown] == [
        ("2", 8, (8, 32, 32)), ("5", 12, (12, 16, 16)), ("9", 20, (20,)), ("logits", 4, (4,)),
    ]  # fmt: skip
    every = layer_shapes(chain(), 32, ["2", "5", "9"], Layout(), every=True)
    assert {layer.name for layer in every if layer.default} == {"2", "5", "9", "logits"}
    assert {"0", "3", "8"} < {layer.name for layer in every}
