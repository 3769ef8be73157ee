"""Where on the image a unit is: every layout back in its square, and attributions that add up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from miclip.catalogue import Catalogue
from miclip.demo.assets import DEMO
from miclip.errors import InvalidInput, NotFound
from miclip.models.grid import to_grid
from miclip.models.preprocessing import Preprocessing
from miclip.models.small import small_resnet, small_vit
from miclip.models.target import TargetModel


def target(module: nn.Module, *layers: str, size: int = 64) -> TargetModel:
    return TargetModel("x", module, labels=[f"class {k}" for k in range(5)], modules=layers,
                       preprocessing=Preprocessing(size, resize="squash"))  # fmt: skip


@pytest.fixture(scope="module", params=["resnet", "vit"])
def model(request: pytest.FixtureRequest) -> TargetModel:
    torch.manual_seed(0)
    if request.param == "vit":
        return target(small_vit(5), "blocks.1", "norm")
    return target(small_resnet(5), "layer2", "layer4")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_attributions_of_the_positions_add_up_to_the_units_and_their_mean_is_its_activation(
    model: TargetModel, images: Tensor
) -> None:
    for layer in list(model.layers)[:-1]:
        logits, activations, attributions = model.positions(images, layer)
        whole, pooled, summed = model.attribute(images, [layer])
        torch.testing.assert_close(logits, whole)
        assert activations.ndim == attributions.ndim == 4 and activations.shape[2] > 1
        torch.testing.assert_close(activations.mean(dim=(2, 3)), pooled[layer], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(attributions.sum(dim=(2, 3)), summed[layer], rtol=1e-3, atol=1e-5)
        assert summed[layer].abs().max() > 0


def test_a_position_changes_with_its_own_patch_of_the_image(model: TargetModel, images: Tensor) -> None:
    layer = next(iter(model.layers))
    changed = images[:1].clone()
    changed[:, :, :8, 56:] += 2  # the corner at the top right
    before, after = (model.positions(x, layer)[1][0] for x in (images[:1], changed))
    difference = (after - before).norm(dim=0)
    row, column = divmod(int(difference.argmax()), difference.shape[1])
    assert row <= 1 and column >= difference.shape[1] - 2


def test_logits_have_no_positions(model: TargetModel, images: Tensor) -> None:
    with pytest.raises(InvalidInput, match="no positions") as caught:
        model.positions(images, "logits")
    assert "logits" in caught.value.message and caught.value.field == "layer"


def test_an_unknown_layer_is_named_with_those_there_are(model: TargetModel, images: Tensor) -> None:
    with pytest.raises(NotFound, match="layer9") as caught:
        model.positions(images, "layer9")
    assert next(iter(model.layers)) in caught.value.allowed


def test_patch_tokens_lie_in_rows_behind_the_prefix() -> None:
    tokens = torch.arange(2 * 11 * 3).reshape(2, 11, 3)
    grid = to_grid(tokens, "x", prefix_tokens=2, channels_last=False)
    assert grid.shape == (2, 3, 3, 3)
    assert torch.equal(grid[1, :, 1, 2], tokens[1, 2 + 1 * 3 + 2])


def test_feature_maps_with_channels_last_are_turned() -> None:
    x = torch.arange(24).reshape(1, 2, 3, 4)
    assert torch.equal(to_grid(x, "x", prefix_tokens=0, channels_last=True), x.permute(0, 3, 1, 2))
    assert to_grid(x, "x", prefix_tokens=0, channels_last=False) is x


@pytest.mark.parametrize(("tokens", "prefix"), [(10, 0), (1, 1), (9, 1)])
def test_tokens_that_are_no_square_are_refused(tokens: int, prefix: int) -> None:
    with pytest.raises(InvalidInput, match="no square"):
        to_grid(torch.zeros(1, tokens, 4), "x", prefix_tokens=prefix, channels_last=False)


@pytest.mark.parametrize(("name", "layer"), [("emoji-resnet", "layer3"), ("emoji-vit", "blocks.2")])
def test_features_of_a_dictionary_have_positions_too(name: str, layer: str) -> None:
    shipped = Catalogue([DEMO]).load_target(name, "cpu")
    features = next(one for one in shipped.layers if one.startswith(f"{layer}/dictionaries/"))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    _, activations, attributions = shipped.positions(images, features)
    _, pooled, summed = shipped.attribute(images, [features])
    assert activations.shape == attributions.shape and activations.shape[1] == shipped.layer_sizes[features]
    assert activations.shape[2:] == shipped.positions(images, layer)[1].shape[2:]
    torch.testing.assert_close(activations.mean(dim=(2, 3)), pooled[features], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(attributions.sum(dim=(2, 3)), summed[features], rtol=1e-3, atol=1e-4)
