"""``miclip picture``: what it writes, what it answers, what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from miclip.atlas import THUMBNAILS, activate_atlas, find_atlas
from miclip.cli.app import app
from miclip.cli.examples import example_image
from miclip.cli.specs import full_layer
from miclip.pictures.projection import project_units
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which nothing was aligned."""
    monkeypatch.setenv("MICLIP_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["picture", *arguments])


def answer(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_sheet_of_a_unit_lists_the_images_it_shows_strongest_first(tmp_path: Path) -> None:
    out = tmp_path / "unit.png"
    value = answer("unit", "layer4/10", "--out", str(out), "--top-k", "9")
    assert value["file"] == str(out) and value["unit"] == "models/emoji-resnet/layers/layer4/units/10"
    atlas = find_atlas("emoji-resnet")
    rows = atlas.layer("layer4").top_images[10][:9]
    assert [image["image"] for image in value["images"]] == [atlas.probe_images[row] for row in rows]
    strengths = [image["activation"] for image in value["images"]]
    assert strengths == sorted(strengths, reverse=True)
    assert out.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(("model", "layer"), [("emoji-resnet", "layer3"), ("emoji-vit", "blocks.2")])
def test_the_map_of_a_unit_says_where_it_is_hottest(tmp_path: Path, model: str, layer: str) -> None:
    out = tmp_path / "map.png"
    value = answer("map", f"{layer}/10", str(example_image()), "--model", model, "--out", str(out))
    rows, columns = value["positions"]
    row, column = value["hottest"]
    assert 0 <= row < rows > 1 and 0 <= column < columns > 1
    assert value["predicted"] in find_atlas(model).manifest.labels
    with Image.open(out) as drawn:
        assert np.ptp(np.asarray(drawn.convert("RGB"))) > 200


def test_the_units_of_a_layer_are_counted_by_super_category(tmp_path: Path) -> None:
    value = answer("units", "--out", str(tmp_path / "units.png"))
    assert (value["layer"], value["units"]) == ("layer4", 256)
    assert set(value["groups"]) <= {
        "animals and nature", "food and drink", "travel and places", "activities", "objects"
    }  # fmt: skip
    assert sum(value["groups"].values()) + value["abstained"] == 256
    assert (tmp_path / "units.png").is_file()


FEATURES = {"emoji-resnet": ("layer3@topk-256", 256), "emoji-vit": ("blocks.2@topk-256", 256)}


@pytest.mark.parametrize("model", list(FEATURES))
def test_features_are_drawn_as_neurons_are(tmp_path: Path, model: str) -> None:
    (layer, count), atlas = FEATURES[model], find_atlas(model)  # needs features in the shipped atlases
    full = full_layer(layer)
    feature = int(atlas.layer(full).fraction_nonzero.argmax())
    sheet = answer("unit", f"{layer}/{feature}", "--model", model, "--out", str(tmp_path / "sheet.png"), "--top-k", "4")
    assert sheet["unit"] == f"models/{model}/layers/{full}/features/{feature}"
    rows = atlas.layer(full).top_images[feature][:4]
    assert [image["image"] for image in sheet["images"]] == [atlas.probe_images[row] for row in rows]
    found = answer("map", f"{layer}/{feature}", IMAGE, "--model", model, "--out", str(tmp_path / "map.png"))
    assert min(found["positions"]) > 1 and found["activation"] >= 0
    units = answer("units", layer, "--model", model, "--out", str(tmp_path / "units.png"))
    assert units["layer"] == full
    assert sum(units["groups"].values()) + units["abstained"] == units["units"] <= count
    assert all((tmp_path / f"{name}.png").is_file() for name in ("sheet", "map", "units"))


def test_units_of_another_model_are_grouped_by_clusters_of_its_labels(recipe: Any, tmp_path: Path) -> None:
    activate_atlas(recipe().write(tmp_path / "data" / "atlases"))
    value = answer("units", "mid", "--model", "toy", "--out", str(tmp_path / "units.png"))
    assert value["groups"] and all(name.startswith("like '") for name in value["groups"])


def test_images_of_another_model_come_from_the_folder_named(recipe: Any, tmp_path: Path) -> None:
    made = recipe()
    activate_atlas(made.write(tmp_path / "data" / "atlases"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in set(made.images):
        Image.new("RGB", (8, 8), (int(name.partition(".")[0]), 0, 0)).save(folder / name)
    out = tmp_path / "unit.png"
    missing = run("unit", "toy/mid/3", "--out", str(out))
    assert (missing.exit_code, missing.stdout) == (1, "") and "--images" in missing.stderr
    value = answer("unit", "toy/mid/3", "--images", str(folder), "--out", str(out), "--top-k", "4")
    assert (len(value["images"]), value["label"]) == (4, "tree") and out.is_file()
    (folder / value["images"][0]["image"]).unlink()
    broken = run("unit", "toy/mid/3", "--images", str(folder), "--out", str(out))
    assert broken.exit_code == 1 and value["images"][0]["image"] in broken.stderr


def webp(red: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), (red, 0, 0)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_images_of_another_model_come_from_the_thumbnails_of_its_atlas(recipe: Any, tmp_path: Path) -> None:
    made = recipe()
    rows = np.sort(made.tensors["mid"]["top_images"][3][:3])
    made.add_pictures(THUMBNAILS, [webp(40), webp(90), webp(140)], rows=rows)
    activate_atlas(made.write(tmp_path / "data" / "atlases"))
    out = tmp_path / "unit.png"
    value = answer("unit", "toy/mid/3", "--out", str(out), "--top-k", "3")
    assert len(value["images"]) == 3
    with Image.open(out) as drawn:
        picture = np.asarray(drawn.convert("RGB"), int)
    for red in (40, 90, 140):
        assert (np.abs(picture - (red, 0, 0)).sum(axis=-1) < 12).sum() > 500
    further = run("unit", "toy/mid/3", "--out", str(out), "--top-k", "4")
    assert further.exit_code == 0 and "1 of 4 images have no thumbnail" in further.stderr


def test_the_units_are_drawn_where_their_atlas_puts_them(recipe: Any, tmp_path: Path) -> None:
    made = recipe()
    made.tensors["mid"]["coordinates"] = np.stack([np.linspace(-1, 1, 40), np.linspace(1, -1, 40)], axis=1)
    activate_atlas(made.write(tmp_path / "data" / "atlases"))
    searcher = AtlasSearcher(find_atlas("toy"))
    groups = dict.fromkeys(searcher.labels.concepts, "all")
    points = project_units(searcher, "mid", groups).points
    np.testing.assert_allclose(points, made.tensors["mid"]["coordinates"], atol=1e-3)


def test_the_map_needs_no_image_for_a_model_of_the_demo(tmp_path: Path) -> None:
    value = answer("map", "layer4/10", "--out", str(tmp_path / "map.png"))
    atlas = find_atlas("emoji-resnet")
    assert value["image"] == atlas.probe_images[atlas.layer("layer4").top_images[10][0]]


IMAGE = str(example_image())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("unit", "layer4/10", "--out", "x.jpg", "--model", "unheard-of"), ".png"),
        (("units", "--out", "nowhere/x.png", "--model", "unheard-of"), "nowhere"),
        (("unit", "layer4/256", "--out", "x.png"), "0 to 255"),
        (("unit", "layer9/1", "--out", "x.png"), "layer4"),
        (("unit", "violin", "--out", "x.png"), "LAYER/UNIT"),
        (("units", "layer9", "--out", "x.png"), "layer4"),
        (("units", "--model", "unheard-of", "--out", "x.png"), "unheard-of"),
        (("map", "layer4/10", "no-such.png", "--out", "x.png"), "no-such.png"),
        (("map", "logits/10", IMAGE, "--out", "x.png"), "no positions"),
        (("map", "layer4/10", __file__, "--out", "x.png"), "not an image"),
        (("unit", "layer4/10", "--images", "nowhere", "--out", "x.png"), "no directory"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_bad_input_is_refused_with_what_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "x.png").exists()
    assert said == "unheard-of" or "unheard-of" not in result.stderr  # the file's name is checked before any work


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    result = run("units", "--out", str(tmp_path / "taken.png"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "taken.png" in result.stderr


def test_where_to_write_must_be_said() -> None:
    result = run("units")
    assert result.exit_code == 2 and "--out" in result.stderr
