"""Promises of the pictures in an atlas, and of the schemas that had none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from miclip.atlas import HELD_OUT, THUMBNAILS, Atlas, read_manifest, verify
from miclip.bundles import bundles
from miclip.errors import BadArtefact

PICTURES = [b"first", b"second picture", b"3rd"]


def with_pictures(made: Any, root: Path, changes: dict[str, dict[str, Any]] | None = None) -> Path:
    made.add_pictures(THUMBNAILS, PICTURES, rows=np.array([4, 9, 200]))
    made.add_pictures(HELD_OUT, PICTURES, predicted=np.array([0, 7, 3]), shown=np.array([0, -1, 3]))
    for stem, change in (changes or {}).items():
        made.pictures[stem] |= change
    return root / str(made.write(root))


def test_pictures_are_read_back(recipe: Any, tmp_path: Path) -> None:
    path = with_pictures(recipe(), tmp_path)
    atlas = Atlas.open(tmp_path, path.name)
    assert [atlas.thumbnail(row) for row in (4, 9, 200)] == PICTURES
    assert atlas.thumbnail(5) is None and atlas.thumbnail(-1) is None
    held_out = atlas.held_out
    assert held_out is not None and [held_out[place] for place in range(len(held_out))] == PICTURES
    assert held_out.predicted.tolist() == [0, 7, 3] and held_out.shown.tolist() == [0, -1, 3] and not held_out.labelled


def test_an_atlas_need_not_have_pictures(atlas: Atlas) -> None:
    assert atlas.held_out is None and atlas.thumbnails is None and atlas.thumbnail(0) is None


@pytest.mark.parametrize(
    ("stem", "change"),
    [
        (THUMBNAILS, {"rows": np.array([9, 4, 200])}),
        (THUMBNAILS, {"rows": np.array([4, 4, 200])}),
        (THUMBNAILS, {"rows": np.array([4, 9, 240])}),
        (THUMBNAILS, {"rows": np.array([-1, 9, 200])}),
        (THUMBNAILS, {"ends": np.array([5, 4, 22])}),
        (HELD_OUT, {"ends": np.array([0, 19, 22])}),
        (HELD_OUT, {"ends": np.array([5, 19, 21])}),
        (HELD_OUT, {"ends": np.array([5, 19, 23])}),
        (HELD_OUT, {"predicted": np.array([0, 8, 3])}),
        (HELD_OUT, {"predicted": np.array([0, -1, 3])}),
        (HELD_OUT, {"shown": np.array([0, -2, 3])}),
    ],
)
def test_pictures_that_do_not_fit_are_refused(recipe: Any, tmp_path: Path, stem: str, change: dict[str, Any]) -> None:
    path = with_pictures(recipe(), tmp_path, {stem: change})
    with pytest.raises(BadArtefact):
        Atlas.open(tmp_path, path.name)


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def pickled(file: Path) -> None:
    file.write_bytes(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.")


@pytest.mark.parametrize("stem", [THUMBNAILS, HELD_OUT])
@pytest.mark.parametrize("damage", [flipped, cut, pickled, Path.unlink])
def test_damaged_pictures_are_refused(recipe: Any, tmp_path: Path, stem: str, damage: Callable[[Path], None]) -> None:
    path = with_pictures(recipe(), tmp_path)
    damage(path / f"{stem}.safetensors")
    with pytest.raises(BadArtefact):
        verify(path)


def test_pictures_that_the_manifest_does_not_name_are_refused(recipe: Any, tmp_path: Path) -> None:
    made = recipe().add_pictures(THUMBNAILS, PICTURES, rows=np.array([1, 2, 3]))
    del made.manifest["pictures"]
    with pytest.raises(BadArtefact, match="thumbnails"):
        made.write(tmp_path)


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    manifest = json.loads((path / "manifest.json").read_bytes())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path.rename(path.with_name(hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()))


def test_coordinates_are_optional_and_other_new_tensors_unknown(recipe: Any, tmp_path: Path) -> None:
    made = recipe()
    made.tensors["mid"]["coordinates"] = np.linspace(-1, 1, 80).reshape(40, 2)
    path = tmp_path / made.write(tmp_path)
    coordinates = Atlas.open(tmp_path, path.name).layer("mid").coordinates
    assert coordinates is not None and coordinates.shape == (40, 2) and coordinates.dtype == np.float16
    assert Atlas.open(tmp_path, path.name).layer("logits").coordinates is None
    made.tensors["mid"]["surprise"] = np.zeros(3)
    with pytest.raises(BadArtefact, match="unknown tensors surprise"):
        made.write(tmp_path)


def test_schema_2_has_neither_coordinates_nor_pictures(recipe: Any, tmp_path: Path) -> None:
    plain = rewritten(tmp_path / recipe().write(tmp_path), lambda manifest: manifest.update(schema_version=2))
    assert verify(plain).schema_version == 2
    pictured = rewritten(with_pictures(recipe(), tmp_path), lambda manifest: manifest.update(schema_version=2))
    with pytest.raises(BadArtefact, match="has no pictures"):
        verify(pictured)
    path = tmp_path / recipe(seed=3).write(tmp_path)
    file = path / read_manifest(path).layers[0].file
    save_file({**load_file(file), "coordinates": np.zeros((40, 2), np.float16)}, file)

    def older(manifest: dict[str, Any]) -> None:
        manifest["schema_version"] = 2
        data = file.read_bytes()
        manifest["files"][file.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    with pytest.raises(BadArtefact, match="unknown tensors coordinates"):
        verify(rewritten(path, older))


def test_the_atlases_of_the_bundle_are_read() -> None:
    atlases = [path for bundle in bundles() for path in bundle.atlases.iterdir()]
    assert len(atlases) == 2
    for path in atlases:
        assert verify(path).schema_version in (2, 3)
