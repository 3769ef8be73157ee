"""The pictures show what they say: read back from their pixels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from miclip.atlas import Atlas
from miclip.demo.concepts import CLASSES
from miclip.demo.groups import FIRST, demo_groups
from miclip.errors import InvalidInput, NotAligned
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import TargetModel
from miclip.pictures.canvas import save
from miclip.pictures.colours import GROUPS, HEAT, colourise, rgb
from miclip.pictures.figures import map_figure, sheet_figure, units_figure
from miclip.pictures.probe import ProbeImages
from miclip.pictures.projection import label_clusters, project_units
from miclip.pictures.spatial import overlay, unit_maps
from miclip.retrieval.search import AtlasSearcher

COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 200), (220, 200, 40), (140, 40, 150), (20, 180, 180)]


class Spot(nn.Module):
    """Unit c of the layer "map" is the red, green or blue of 8×8 patches; class c is its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.AvgPool2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x).mean(dim=(2, 3))


@pytest.fixture(scope="module")
def model() -> TargetModel:
    return TargetModel("spot", Spot(), labels=("red", "green", "blue"), modules=("map",),
                       preprocessing=Preprocessing(64, resize="squash", mean=(0, 0, 0), std=(1, 1, 1)))  # fmt: skip


def spotted(row: int, column: int) -> Tensor:
    """A black image whose 8×8 patch at a position of the 8×8 grid is green."""
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[1, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    return image


def pixels(figure: Any, path: Path) -> np.ndarray:
    save(figure, path, "--out")
    with Image.open(path) as drawn:
        return np.asarray(drawn.convert("RGB"), float)


def inside(picture: np.ndarray, axes: Any) -> np.ndarray:
    """The pixels within the axes of a figure that was saved."""
    scale = picture.shape[0] / axes.figure.bbox.height
    left, bottom, right, top = (round(value * scale) for value in axes.get_window_extent().extents)
    return picture[picture.shape[0] - top : picture.shape[0] - bottom, left:right]


def hottest(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Centre of the pixels nearest to a colour, as shares of height and width."""
    distance = np.abs(picture - colour).sum(axis=-1)
    rows, columns = np.nonzero(distance <= distance.min() + 6)
    return rows.mean() / picture.shape[0], columns.mean() / picture.shape[1]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 6), (5, 2), (7, 7)])
def test_the_map_is_hottest_where_the_unit_was_planted(
    model: TargetModel, tmp_path: Path, row: int, column: int
) -> None:
    (found,) = unit_maps(model, [spotted(row, column)], "map", [1])
    assert found.predicted == "green"
    assert divmod(int(found.activation.argmax()), 8) == divmod(int(found.attribution.argmax()), 8) == (row, column)
    figure = map_figure("a map", found)
    picture = pixels(figure, tmp_path / "map.png")
    for axes, colour in ((figure.axes[1], rgb(HEAT[-1])), (figure.axes[2], (103, 0, 31))):
        assert hottest(inside(picture, axes), colour) == pytest.approx(((row + 0.5) / 8, (column + 0.5) / 8), abs=0.07)


def test_the_overlay_is_grey_where_the_unit_is_silent_and_hot_where_it_is_not(model: TargetModel) -> None:
    (found,) = unit_maps(model, [spotted(2, 5)], "map", [1])
    made = overlay(found)
    assert hottest(made.astype(float), tuple(made[20, 44])) == pytest.approx((2.5 / 8, 5.5 / 8), abs=0.07)
    assert (made[60, 4] == made[60, 4, 0]).all()
    assert np.ptp(made[20, 44]) > 60


def test_a_unit_that_is_silent_everywhere_leaves_the_image_grey(model: TargetModel) -> None:
    (found,) = unit_maps(model, [torch.zeros(3, 64, 64, dtype=torch.uint8)], "map", [1])
    assert not np.ptp(overlay(found), axis=-1).any()
    map_figure("nothing to see", found)


def test_each_image_is_mapped_for_its_own_unit(model: TargetModel) -> None:
    image = spotted(3, 3)
    first, second = unit_maps(model, [image, image], "map", [1, 0])
    assert first.activation.max() == pytest.approx(1) and second.activation.max() == 0
    assert np.array_equal(first.image, image.permute(1, 2, 0).numpy())


def test_a_unit_that_does_not_exist_is_refused_with_those_that_do(model: TargetModel) -> None:
    with pytest.raises(InvalidInput, match="0 to 2"):
        unit_maps(model, [spotted(0, 0)], "map", [3])


@pytest.mark.parametrize("count", [1, 5, 8, 11])
def test_the_contact_sheet_shows_the_images_in_order(tmp_path: Path, count: int) -> None:
    wanted = [COLOURS[place % len(COLOURS)] for place in range(count)]
    images = [torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 20, 20) for colour in wanted]
    figure = sheet_figure("costs $1 and $2", images, [f"{place}." for place in range(count)])
    picture = pixels(figure, tmp_path / "sheet.png")
    shown = [axes for axes in figure.axes if axes.images]
    boxes = [axes.get_window_extent() for axes in shown]
    assert sorted(range(count), key=lambda at: (-round(boxes[at].y0), boxes[at].x0)) == list(range(count))
    for axes, colour in zip(shown, wanted, strict=True):
        tile = inside(picture, axes)
        assert np.abs(tile[5:-5, 5:-5] - colour).max() <= 2


def test_the_place_of_a_missing_image_says_so(tmp_path: Path) -> None:
    figure = sheet_figure("one is missing", [torch.zeros(3, 9, 9, dtype=torch.uint8), None], ["1.", "2."])
    assert [len(axes.images) for axes in figure.axes[:2]] == [1, 0]
    assert figure.axes[1].texts[0].get_text() == "no thumbnail"


def test_the_projection_draws_every_unit_in_the_colour_of_its_group(atlas: Atlas, tmp_path: Path) -> None:
    searcher = AtlasSearcher(atlas)
    groups = {label: "animals" if label in ("dog", "cat", "fish") else "things" for label in searcher.labels.concepts}
    found = project_units(searcher, "mid", groups)
    assert (found.points.shape, len(found.groups)) == ((40, 2), 40)
    said = Counter(group for group in found.groups if group)
    assert said == {"things": 25, "animals": 15} and found.names == ("things", "animals")
    figure = units_figure("units", found)
    offsets = {at.get_label(): len(at.get_offsets()) for at in figure.axes[0].collections}
    assert offsets == {"things (25)": 25, "animals (15)": 15}
    picture = pixels(figure, tmp_path / "units.png")
    for colour in GROUPS[:2]:
        assert (np.abs(picture - rgb(colour)).sum(axis=-1) < 6).sum() > 200
    assert (np.abs(picture - rgb(GROUPS[2])).sum(axis=-1) < 6).sum() == 0


def test_units_of_one_concept_lie_together_and_the_same_units_give_the_same_picture(atlas: Atlas) -> None:
    searcher = AtlasSearcher(atlas)
    found = project_units(searcher, "mid", {label: label for label in searcher.labels.concepts})
    same = np.array(found.groups)[:, None] == np.array(found.groups)
    distance = np.linalg.norm(found.points[:, None] - found.points, axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert same[np.arange(40), distance.argmin(axis=1)].all()
    again = project_units(searcher, "mid", {label: label for label in searcher.labels.concepts})
    assert np.array_equal(found.points, again.points)


def test_too_few_units_and_unknown_layers_are_refused(recipe: Any, tmp_path: Path) -> None:
    searcher = AtlasSearcher(recipe(units=7).open(tmp_path))
    with pytest.raises(InvalidInput, match="at least 8"):
        project_units(searcher, "mid", dict.fromkeys(searcher.labels.concepts, "all"))
    with pytest.raises(NotAligned, match="mid"):
        project_units(searcher, "nowhere", {})


def test_labels_without_known_groups_are_clustered_and_named_by_one_of_them() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3, 12) * 5
    embeddings = (np.repeat(centres, 4, axis=0) + 0.1 * rng.standard_normal((12, 12))).astype(np.float32)
    labels = [f"{kind} {place}" for kind in ("dog", "bus", "oak") for place in range(4)]
    groups = label_clusters(labels, embeddings, count=3)
    assert {tuple(sorted(label for label in labels if groups[label] == name)) for name in set(groups.values())} == {
        tuple(labels[:4]), tuple(labels[4:8]), tuple(labels[8:])
    }  # fmt: skip
    assert all(name.startswith("like '") and name[6:-1] in labels for name in groups.values())


class Folder:
    """Images by name; image n is n grey."""

    name, views, sha256, licence = "folder", 1, "", ""

    def __init__(self, names: list[str]) -> None:
        self.names = tuple(names)

    def load(self, start: int, stop: int) -> list[Tensor]:
        grey = [int(self.names[at].partition(".")[0]) for at in range(start, stop)]
        return [torch.full((3, 2, 2), value, dtype=torch.uint8) for value in grey]


def test_top_images_are_found_by_name_whatever_their_order(atlas: Atlas) -> None:
    names = sorted(set(atlas.probe_images), reverse=True)
    probe = ProbeImages(atlas, Folder(names))
    shown = [int(image[0, 0, 0]) for image in probe.top("mid", 3, 5)]
    rows = atlas.layer("mid").top_images[3][:5]
    assert shown == [int(atlas.probe_images[row].partition(".")[0]) for row in rows]


def test_images_that_are_missing_are_named(atlas: Atlas) -> None:
    names = sorted(set(atlas.probe_images) - {"7.png"})
    with pytest.raises(InvalidInput, match=r"1 of the atlas's images are not in 'folder', '7.png'"):
        ProbeImages(atlas, Folder(names))


def test_colours_run_from_the_first_to_the_last() -> None:
    made = colourise(np.array([0, 0.5, 1]), ("#000000", "#0a141e", "#ffffff"))
    assert made.tolist() == [[0, 0, 0], [10, 20, 30], [255, 255, 255]]


def test_every_class_of_the_demo_has_its_super_category() -> None:
    groups = demo_groups()
    assert tuple(groups) == CLASSES and set(FIRST) <= set(CLASSES)
    assert [groups[name] for name in ("monkey", "mushroom", "beer mug", "fire", "moai")] == [
        "animals and nature", "animals and nature", "food and drink", "travel and places", "objects"
    ]  # fmt: skip
