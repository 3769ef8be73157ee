"""What an evaluation takes from an atlas: the images that judge, and those that labels were made from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from miclip.atlas import HELD_OUT, Atlas
from miclip.errors import InvalidInput
from miclip.evaluation.stored import HeldOutImages, aligning_images, stored_probe


def webp(red: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (red, 0, 0)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def opened(recipe: Any, root: Path, shown: list[int]) -> Atlas:
    made = recipe().add_pictures(
        HELD_OUT, [webp(red) for red in (10, 20, 30)], predicted=np.array([0, 7, 3]), shown=np.array(shown)
    )
    atlas: Atlas = made.open(root)
    return atlas


@pytest.mark.parametrize(
    ("shown", "labels", "said"),
    [([0, 6, 3], [0, 6, 3], "of their own"), ([0, -1, 3], [0, 7, 3], "by the model itself")],
)
def test_held_out_images_judge_by_their_own_labels_or_else_by_the_models_predictions(
    recipe: Any, tmp_path: Path, shown: list[int], labels: list[int], said: str
) -> None:
    images = HeldOutImages(opened(recipe, tmp_path, shown))
    assert images.labels.tolist() == labels and said in images.name and "set aside" in images.name
    loaded = images.load(1, 3)
    assert [tuple(image.shape) for image in loaded] == [(3, 4, 6)] * 2
    assert [int(image[0, 0, 0]) for image in loaded] == [20, 30]


def test_an_atlas_without_held_out_images_cannot_judge(atlas: Atlas) -> None:
    with pytest.raises(InvalidInput, match="fewer than 64 images") as refused:
        HeldOutImages(atlas)
    assert refused.value.field == "--images"


class Whole:
    """The probe set of the recipe, and the images that its alignment set aside."""

    name, views, licence, sha256 = "toy", 1, "none", "b" * 64
    names = ("aside.png", *(f"{row // 2}.png" for row in range(0, 240, 2)), "also-aside.png")

    def load(self, start: int, stop: int) -> list[Tensor]:
        return [torch.full((3, 2, 2), row, dtype=torch.uint8) for row in range(start, stop)]


def test_labels_are_made_anew_from_the_images_that_were_not_set_aside(atlas: Atlas) -> None:
    probe = aligning_images(atlas, Whole())
    assert probe is not None and len(probe.names) == 120
    assert not {"aside.png", "also-aside.png"} & set(probe.names)
    assert int(probe.load(0, 1)[0][0, 0, 0]) == 1


def test_another_probe_set_is_not_taken_for_that_of_the_atlas(atlas: Atlas) -> None:
    other = Whole()
    other.sha256 = "c" * 64
    assert aligning_images(atlas, other) is None


def test_the_images_of_a_stored_atlas_are_names_alone(atlas: Atlas) -> None:
    probe = stored_probe(atlas)
    assert probe.names == tuple(atlas.probe_images) and "stored atlas" in probe.name
    with pytest.raises(InvalidInput, match="not at hand"):
        probe.load(0, 1)
