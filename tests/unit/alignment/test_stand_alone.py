"""Promises of what lets an atlas stand alone: images set aside, thumbnails, coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from miclip.alignment import ActivationStore, AlignmentConfig, DirectoryProbe, EncoderSettings, align_model
from miclip.alignment.coordinates import LANDMARKS, plane
from miclip.alignment.held_out import held_out_pictures, set_aside, shown_labels
from miclip.alignment.thumbnails import needed_rows, thumbnail_pictures
from miclip.alignment.webp import shrink
from miclip.atlas import Atlas, normalise
from miclip.demo.concepts import CLASSES
from miclip.images import decode_image
from miclip.settings import Settings, settings
from tests.unit.alignment.colours import COLOURS, ColourClip, colour_model, colour_square

CONFIG = AlignmentConfig(encoder=EncoderSettings(steps=20, batch=32))


class Numbered:
    """Images whose pixels say which row they are, in a probe set of several views."""

    licence = "none"

    def __init__(self, images: int, views: int = 1, name: str = "numbered") -> None:
        self.name, self.views, self.sha256 = name, views, "e" * 64
        self.names = tuple(f"{image}.png#{view}" for view in range(views) for image in range(images))

    def load(self, start: int, stop: int) -> list[Tensor]:
        return [torch.full((3, 8, 8), row, dtype=torch.uint8) for row in range(start, stop)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """96 squares of the five colours, each in the folder of its colour."""
    for row in range(96):
        colour = list(COLOURS)[row % 5]
        folder = tmp_path / "photos" / colour
        folder.mkdir(parents=True, exist_ok=True)
        pixels = colour_square(row, 160).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{row}.png")
    return tmp_path / "photos"


def align(root: Path, probe: Any, config: AlignmentConfig = CONFIG) -> Atlas:
    atlas_id = align_model(
        colour_model(), ColourClip(), probe, config,  # type: ignore[arg-type]
        store=root / "store", atlas_root=root / "atlases",
    )  # fmt: skip
    return Atlas.open(root / "atlases", atlas_id)


def test_views_of_an_image_are_set_aside_together() -> None:
    probe = Numbered(80, views=3)
    split = set_aside(probe, COLOURS, Settings())
    aside = {probe.names[row].partition("#")[0] for row in split.held_out}
    aligning = [name.partition("#")[0] for name in split.aligning.names]
    assert len(split.held_out) == len(aside) == 10
    assert aside.isdisjoint(aligning) and len(aligning) == 3 * 70
    assert aligning[:70] == aligning[70:140] == aligning[140:], "views stay in the order that statistics rely on"
    rows = [int(image[0, 0, 0]) for image in split.aligning.load(0, 210)]
    assert [probe.names[row] for row in rows] == list(split.aligning.names)


@pytest.mark.parametrize(
    ("images", "share", "most", "expected"),
    [(63, 0.125, 256, 0), (64, 0.125, 256, 8), (900, 0.5, 12, 12), (80, 0, 9, 0)],
)
def test_how_many_images_are_set_aside(images: int, share: float, most: int, expected: int) -> None:
    config = Settings(held_out_share=share, held_out_images=most)
    assert len(set_aside(Numbered(images), COLOURS, config).held_out) == expected


def test_a_bundle_with_held_out_images_of_the_labels_gives_all_its_images() -> None:
    probe = Numbered(640, name="demo")
    assert set_aside(probe, CLASSES, Settings()).aligning is probe
    assert len(set_aside(probe, list(COLOURS), Settings()).held_out) == 80, "but not to a model of other labels"


def test_nothing_of_an_atlas_is_made_from_held_out_images(photos: Path, tmp_path: Path) -> None:
    probe = DirectoryProbe(photos)
    split = set_aside(probe, list(COLOURS), settings())
    aside = {probe.names[row] for row in split.held_out}
    whole = align(tmp_path / "a", probe)
    assert len(aside) == 12 and aside.isdisjoint(whole.probe_images) and len(whole.probe_images) == 84
    for name in sorted(aside):
        Image.new("RGB", (160, 160), (7, 7, 7)).save(photos / name)
    for row in split.held_out:  # other images in their place change nothing but the slice itself
        assert (probe.load(row, row + 1)[0] == 7).all()
    changed = align(tmp_path / "b", probe)
    for name, entry in whole.manifest.files.items():
        assert (entry == changed.manifest.files[name]) == (name != "held-out.safetensors"), name


def test_held_out_images_are_stored_with_what_the_model_says_and_what_they_show(photos: Path, tmp_path: Path) -> None:
    atlas = align(tmp_path, DirectoryProbe(photos))
    held_out, model = atlas.held_out, colour_model()
    assert held_out is not None and len(held_out) == 12 and held_out.labelled
    images = [decode_image(held_out[place], field="image") for place in range(12)]
    assert {tuple(image.shape) for image in images} == {(3, 8, 8)}, "the size that the model takes"
    logits = model.forward(torch.stack([model.preprocess(image) for image in images])).logits
    assert logits.argmax(dim=1).tolist() == held_out.predicted.tolist() == held_out.shown.tolist()


def test_held_out_images_without_a_class_folder_have_no_label(tmp_path: Path) -> None:
    held_out = align(tmp_path, Numbered(64)).held_out
    assert held_out is not None and not held_out.labelled
    assert held_out.shown.tolist() == [-1] * 8


def test_classes_are_found_by_their_name_alone() -> None:
    assert shown_labels(["Tabby_cat", "dog", "crane", "0", ""], ["dog", "tabby cat", "crane", "crane"]).tolist() == [
        1, 0, -1, -1, -1,
    ]  # fmt: skip


def test_held_out_images_stay_in_their_budget() -> None:
    probe, model = Numbered(64), colour_model()
    entry, _ = held_out_pictures(model, probe, range(0, 64), Settings())
    budget = entry.bytes // 2
    small, tensors = held_out_pictures(model, probe, range(0, 64), Settings(held_out_bytes=budget))
    assert 0.3 * 64 < small.pictures < 64 and small.bytes == len(tensors["data"]) <= budget
    assert small.left_out == 64 - small.pictures


def test_thumbnails_are_of_the_images_that_units_need(photos: Path, tmp_path: Path) -> None:
    atlas = align(tmp_path, DirectoryProbe(photos))
    assert atlas.thumbnails is not None
    for name in atlas.layer_names:
        for row in np.unique(atlas.layer(name).top_images):
            thumbnail = atlas.thumbnail(int(row))
            assert thumbnail is not None
            shown = decode_image(thumbnail, field="thumbnail")
            (original,) = DirectoryProbe(photos).load(
                place := DirectoryProbe(photos).names.index(atlas.probe_images[row]), place + 1
            )
            assert tuple(shown.shape) == (3, 96, 96)
            difference = shown.float().mean(dim=(1, 2)) - original.float().mean(dim=(1, 2))
            assert difference.abs().max() < 12


def test_the_most_needed_thumbnails_come_first_and_stay_in_the_budget() -> None:
    top = np.array([[2, 0, -1], [2, 1, -1], [1, 2, -1]], np.int32)
    needed = needed_rows([top], views=5)
    assert needed.tolist() == [2, 1, 0], "rows that no unit needs are left out"
    probe, rows = Numbered(5), np.array([0, 1, 2])

    def make(config: Settings) -> Any:
        return thumbnail_pictures(probe, rows, needed, config, lambda done, total: None)

    whole = make(Settings())
    made = make(Settings(thumbnail_bytes=whole[0].bytes - 1))
    assert made[0].left_out == 1 and made[0].bytes < whole[0].bytes
    assert made[1]["rows"].tolist() == [1, 2]
    assert make(Settings(thumbnail_bytes=0)) is None


def test_a_strip_is_cut_before_it_is_shrunk() -> None:
    assert shrink(torch.zeros(3, 4, 9000, dtype=torch.uint8), 96, longest=True).size == (32, 4)


def test_coordinates_put_alike_units_together_and_are_the_same_again() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 16))
    group = np.arange(60) % 4
    embeddings = normalise(centres[group] + 0.1 * rng.standard_normal((60, 16)))
    embeddings[0] = 0
    points = plane(embeddings)
    assert points.shape == (60, 2) and np.abs(points).max() <= 1 and not points[0].any()
    np.testing.assert_array_equal(points, plane(embeddings))
    distance = np.linalg.norm(points[1:, None] - points[None, 1:], axis=-1) + 9 * np.eye(59)
    assert (group[1:][distance.argmin(axis=1)] == group[1:]).all()


@pytest.mark.parametrize("embeddings", [np.zeros((12, 4)), np.ones((12, 4)) / 2, np.eye(3), np.eye(1, 4)])
def test_few_or_equal_units_have_coordinates(embeddings: Any) -> None:
    points = plane(embeddings)
    assert points.shape == (len(embeddings), 2) and np.isfinite(points).all()


def test_many_units_are_placed_between_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miclip.alignment.coordinates.LANDMARKS", 60)
    assert LANDMARKS > 60
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 16))
    group = np.arange(400) % 4
    points = plane(normalise(centres[group] + 0.1 * rng.standard_normal((400, 16))))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(400)
    assert (group[distance.argmin(axis=1)] == group).mean() > 0.98


def test_an_alignment_that_need_not_stand_alone_uses_every_image(photos: Path, tmp_path: Path) -> None:
    atlas = align(tmp_path, DirectoryProbe(photos), AlignmentConfig(encoder=CONFIG.encoder, stands_alone=False))
    assert len(atlas.probe_images) == 96 and atlas.held_out is None and atlas.thumbnails is None
    assert atlas.layer("1").coordinates is None
    assert ActivationStore(tmp_path / "store", colour_model(), ColourClip(), DirectoryProbe(photos), ["1"]).done == 0  # type: ignore[arg-type]
