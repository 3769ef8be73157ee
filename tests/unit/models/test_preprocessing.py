from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from miclip.models import _torchvision  # noqa: F401  (before timm and open_clip)
from miclip.models.preprocessing import Preprocessing

SIZES = [(300, 200), (200, 300), (97, 97), (40, 61), (224, 224)]


def photograph(width: int, height: int) -> Image.Image:
    """Smooth, with edges: noise would make every resampling differ."""
    y, x = np.mgrid[0:height, 0:width] / 23
    channels = [np.sin(x + phase) * np.cos(y * 1.3 - phase) + (x > 4) * (y > 2) for phase in (0, 1, 2)]
    return Image.fromarray((np.stack(channels, -1) * 60 + 128).clip(0, 255).astype(np.uint8))


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def close(ours: Tensor, theirs: Tensor, std: float) -> None:
    levels = (ours - theirs).abs() * std * 255
    assert ours.shape == theirs.shape
    assert levels.max() < 3
    assert levels.mean() < 0.3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mode", "crop"), [("center", 0.875), ("squash", 1.0), ("center", 1.0)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_timm(size: tuple[int, int], mode: str, crop: float, interpolation: str) -> None:
    from timm.data import create_transform

    theirs = create_transform(
        (3, 96, 96), interpolation=interpolation, crop_pct=crop, crop_mode=mode, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    resize = "squash" if mode == "squash" else "shortest"
    ours = Preprocessing(96, resize=resize, resize_size=int(96 / crop), interpolation=interpolation)
    image = photograph(*size)
    close(ours(tensor(image)), theirs(image), 0.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_pixels_are_those_of_open_clip(size: tuple[int, int], resize: str) -> None:
    from open_clip.transform import image_transform

    theirs = image_transform(64, is_train=False, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2), resize_mode=resize)
    ours = Preprocessing(64, resize=resize, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    image = photograph(*size)
    close(ours(tensor(image)), theirs(image), 0.2)


@pytest.mark.parametrize("shape", [(1, 16_384), (16_384, 1), (1, 1), (3, 7)])
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_any_shape_becomes_a_square_without_growing_out_of_hand(shape: tuple[int, int], resize: str) -> None:
    image = torch.full((3, *shape), 200, dtype=torch.uint8)
    pixels = Preprocessing(224, resize=resize)(image)
    assert pixels.shape == (3, 224, 224)
    assert pixels[:, 111, 111].tolist() == pytest.approx([(200 / 255 - 0.5) / 0.5] * 3)


def test_an_image_of_the_right_size_is_only_normalised() -> None:
    image = tensor(photograph(64, 64))
    assert torch.equal(Preprocessing(64, resize="squash")(image), (image.float() / 255 - 0.5) / 0.5)
