"""Network Dissection: thresholds, overlaps, and masks that follow the drawing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miclip.catalogue import Catalogue
from miclip.demo.assets import DEMO
from miclip.demo.probe import demo_probe
from miclip.evaluation.methods.network_dissection import GRID, MaskedProbe, network_dissection, spatial_maps


def test_the_iou_is_that_of_hand_counted_positions() -> None:
    """Two classes on the grid itself: unit 0 fires on half of class 0's object, unit 1 on both objects."""
    maps, masks = torch.zeros(2, 2, GRID, GRID), torch.zeros(2, GRID, GRID)
    masks[:, :2] = 1  # two rows of 16: 32 positions an image
    maps[0, 0, 0] = 5  # 16 positions, all on the object of image 0
    maps[:, 1, :3] = 1  # three rows in both images, two of them on the objects
    maps += 1e-3 * torch.arange(maps.numel()).view_as(maps) / maps.numel()
    found = network_dissection(maps, masks, torch.tensor([0, 1]), 2)
    high = round(0.005 * 2 * GRID * GRID)  # a unit has so many strongest positions, here 3
    by_rank = maps.transpose(0, 1).flatten(1).topk(high).indices
    assert found[0, 0] == pytest.approx(high / 32)  # all three on the object of image 0
    assert found[1, 0] == 0
    of_second = int(((by_rank[1] % GRID**2) < 32).sum())
    image = int(by_rank[1][0]) // GRID**2
    assert found[image, 1] == pytest.approx(of_second / (high + 32 - of_second))


def test_a_planted_object_detector_is_named_and_a_detector_of_the_ground_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(30)
    masks = torch.zeros(120, 64, 64)
    masks[:, 16:48, 16:48] = 1
    maps = torch.rand(120, 5, 8, 8, generator=generator)
    for unit in range(4):  # fires on the objects of class unit, somewhere inside
        maps[labels == unit, unit, 3:5, 3:5] += 2
    maps[labels == 0, 4, :1, :] += 2  # fires above the objects of class 0
    found = network_dissection(maps, masks, labels, 4)
    assert found[:, :4].argmax(axis=0).tolist() == [0, 1, 2, 3]
    assert found[:, 4].max() < 0.01
    shuffled = network_dissection(maps, masks, labels[torch.randperm(120, generator=generator)], 4)
    assert shuffled.max() < 0.6 * found[:, :4].max(axis=0).min()


def test_masks_lie_where_the_drawing_is() -> None:
    """Where nothing is drawn the ground shows; the drawing differs from it, view for view."""
    probe = demo_probe(3)
    assert isinstance(probe, MaskedProbe)
    views, masks = torch.stack(probe.load(100, 140)).float() / 255, probe.masks(100, 140)
    assert masks.shape == (40, 64, 64)
    assert 0 <= float(masks.min()) < 0.01
    assert float(masks.max()) <= 1.01
    assert torch.equal(masks[3:5], probe.masks(103, 105))
    white = [(v, m) for v, m in zip(views, masks, strict=True) if bool((v[:, m == 0] > 0.999).all())]
    assert len(white) >= 5  # a third of the grounds is plain white
    for view, mask in white:
        drawn = (view < 0.98).any(dim=0)
        assert (drawn & (mask > 0.5)).sum() / drawn.sum() > 0.7


@pytest.mark.parametrize(("name", "layer", "shape"), [
    ("emoji-resnet", "layer3", (128, 4, 4)), ("emoji-vit", "blocks.2", (128, 8, 8)), ("emoji-vit", "norm", (128, 8, 8)),
    ("emoji-resnet", "layer3/dictionaries/topk-256", (256, 4, 4)),
    ("emoji-vit", "norm/dictionaries/topk-512", (512, 8, 8)),
])  # fmt: skip
def test_maps_pool_to_the_layers_activation(name: str, layer: str, shape: tuple[int, ...]) -> None:
    model = Catalogue([DEMO]).load_target(name, "cpu")
    images = torch.stack([model.preprocess(image) for image in demo_probe().load(0, 3)])
    maps = spatial_maps(model, layer, images)
    assert maps is not None
    assert maps.shape == (3, *shape)
    pooled = model.forward(images, capture=[layer]).activations[layer]
    assert np.allclose(maps.mean(dim=(2, 3)), pooled, atol=1e-4)


def test_logits_have_no_positions() -> None:
    model = Catalogue([DEMO]).load_target("emoji-resnet", "cpu")
    assert spatial_maps(model, "logits", torch.zeros(1, 3, 64, 64)) is None
