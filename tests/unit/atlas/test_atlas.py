"""Promises of the atlas on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from miclip.atlas import (
    LAYER_TENSORS,
    Atlas,
    verify,
)
from miclip.errors import BadArtefact, NotAligned
from miclip.files import publish_folder


def rename_to_hash(path: Path) -> Path:
    """Make a changed manifest self-consistent, as one who writes a wrong atlas on purpose would."""
    return path.rename(path.with_name(hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()))


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    manifest = json.loads((path / "manifest.json").read_bytes())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return rename_to_hash(path)


@pytest.fixture
def path(recipe: Any, tmp_path: Path) -> Path:
    return tmp_path / recipe().write(tmp_path)


def test_what_is_written_is_read_back(recipe: Any, tmp_path: Path) -> None:
    made = recipe()
    opened = made.open(tmp_path)
    for layer in ("mid", "logits"):
        for name, value in made.tensors[layer].items():
            read = np.asarray(getattr(opened.layer(layer), name))
            stored = LAYER_TENSORS[name][0]
            np.testing.assert_array_equal(read, np.asarray(value).astype(stored), err_msg=f"{layer}.{name}")
    np.testing.assert_array_equal(opened.predicted, made.tensors["shared"]["predicted"])
    assert opened.probe_images == made.images
    assert opened.layer_names == ("mid", "logits")


def test_same_content_has_the_same_id_and_other_content_another(recipe: Any, tmp_path: Path) -> None:
    first = recipe().write(tmp_path / "a")
    assert recipe().write(tmp_path / "b") == first
    assert recipe(seed=1).write(tmp_path / "c") != first


def test_writing_twice_keeps_one_directory_and_no_temporary_ones(recipe: Any, tmp_path: Path) -> None:
    atlas_id = recipe().write(tmp_path)
    recipe().write(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [atlas_id]


def test_writing_again_repairs_a_broken_copy(recipe: Any, path: Path) -> None:
    (path / "probe.json").unlink()
    recipe().write(path.parent)
    verify(path)


def test_a_failed_write_leaves_nothing(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miclip.files.sync", lambda path: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        recipe().write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_write_the_same_atlas(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(folder: Path, target: Path) -> None:
        monkeypatch.setattr("miclip.atlas.write.publish_folder", publish_folder)
        recipe().write(tmp_path)
        publish_folder(folder, target)

    monkeypatch.setattr("miclip.atlas.write.publish_folder", meanwhile)
    atlas_id = recipe().write(tmp_path)
    verify(tmp_path / atlas_id)
    assert [entry.name for entry in tmp_path.iterdir()] == [atlas_id]


def test_arrays_are_read_only_views_of_the_file(path: Path) -> None:
    activations = verify_open(path).layer("mid").activations
    assert not activations.flags.writeable
    assert not activations.flags.owndata


def verify_open(path: Path) -> Atlas:
    return Atlas.open(path.parent, path.name)


FILES = ("manifest.json", "probe.json", "shared.safetensors", "layer-000.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(BadArtefact, match=r"missing|no manifest"):
        verify(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 7, -1])
def test_a_truncated_file_is_refused(path: Path, name: str, keep: int) -> None:
    (path / name).write_bytes((path / name).read_bytes()[:keep])
    with pytest.raises(BadArtefact, match=r"truncated|empty|changed"):
        verify(path)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_refused(path: Path, name: str) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(BadArtefact, match=r"does not match"):
        verify(path)


def test_a_file_of_another_atlas_is_refused(recipe: Any, path: Path, tmp_path: Path) -> None:
    other = tmp_path / recipe(seed=1).write(tmp_path)
    shutil.copy(other / "layer-000.safetensors", path / "layer-000.safetensors")
    with pytest.raises(BadArtefact, match="another atlas or layer"):
        verify(path)


def test_a_file_of_another_layer_is_refused(recipe: Any, tmp_path: Path) -> None:
    path = tmp_path / recipe(units=8).write(tmp_path)  # both layers have files of one size
    first, second = path / "layer-000.safetensors", path / "layer-001.safetensors"
    assert first.stat().st_size == second.stat().st_size
    shutil.copy(second, first)
    with pytest.raises(BadArtefact, match="another atlas or layer"):
        verify(path)


def test_an_edited_manifest_is_refused(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"toy"', '"boy"'))
    with pytest.raises(BadArtefact, match="does not match the atlas's id"):
        verify(path)


def test_an_atlas_under_another_id_is_refused(path: Path) -> None:
    with pytest.raises(BadArtefact, match="does not match the atlas's id"):
        verify(path.rename(path.with_name("0" * 64)))


def test_a_newer_schema_is_refused_by_its_number(path: Path) -> None:
    changed = rewrite(path, lambda manifest: manifest.update(schema_version=4, something_new=True))
    with pytest.raises(BadArtefact, match=r"schema version 4.*up to 3.*Upgrade"):
        verify(changed)


def test_other_weights_are_refused(path: Path) -> None:
    assert Atlas.open(path.parent, path.name, model_weights_sha256="a" * 64).manifest.model == "toy"
    with pytest.raises(BadArtefact, match="other weights of model toy"):
        Atlas.open(path.parent, path.name, model_weights_sha256="c" * 64)


@pytest.mark.parametrize(
    "name", ["../../secret.json", "/etc/passwd", "a/b.json", "..json", "x.pkl", "manifest.json", ""]
)
def test_a_file_name_that_leaves_the_directory_is_refused(path: Path, name: str) -> None:
    def add(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}

    with pytest.raises(BadArtefact, match="not a file name"):
        verify(rewrite(path, add))


def test_a_layer_that_points_outside_is_refused(path: Path) -> None:
    def point(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["file"] = "../layer-000.safetensors"

    with pytest.raises(BadArtefact, match="not those of the layers"):
        verify(rewrite(path, point))


@pytest.mark.parametrize("atlas_id", ["../../etc", "", "x" * 64, "A" * 64, "0" * 63])
def test_only_hashes_are_ids(tmp_path: Path, atlas_id: str) -> None:
    with pytest.raises(BadArtefact, match="not an atlas id"):
        Atlas.open(tmp_path, atlas_id)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"[" * 100_000, b'{"schema_version": 1}', b"\x80\x04."])
def test_a_manifest_that_is_none_is_refused(path: Path, data: bytes) -> None:
    (path / "manifest.json").write_bytes(data)
    with pytest.raises(BadArtefact, match="manifest"):
        verify(rename_to_hash(path))


def replace_file(path: Path, name: str, data: bytes) -> Path:
    (path / name).write_bytes(data)

    def note(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    return rewrite(path, note)


def test_no_pickle_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (path.parent / "exploded",)

    changed = replace_file(path, "layer-000.safetensors", pickle.dumps(Bomb()))
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    with pytest.raises(BadArtefact, match="not a safetensors file"):
        verify(changed)
    assert not (path.parent / "exploded").exists()


ENCODER_BYTES = 32 * 40 * 4
LIES: list[dict[str, Any]] = [
    {"data_offsets": [10**9, 10**9 + ENCODER_BYTES]},
    {"data_offsets": [-ENCODER_BYTES, 0]},
    {"data_offsets": [ENCODER_BYTES, 0]},
    {"data_offsets": [0, 4]},
    {"data_offsets": "ab"},
    {"data_offsets": [0.5, ENCODER_BYTES + 0.5]},
    {"dtype": "F64"},
    {"dtype": ["F32"]},
    {"shape": [40, 32]},
    {"shape": 7},
]


def with_header(path: Path, header: bytes) -> Path:
    data = (path / "layer-000.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    return replace_file(path, "layer-000.safetensors", len(header).to_bytes(8, "little") + header + data[8 + size :])


def read_header(path: Path) -> dict[str, Any]:
    data = (path / "layer-000.safetensors").read_bytes()
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def test_an_honest_header_is_accepted(path: Path) -> None:
    verify(with_header(path, json.dumps(read_header(path)).encode()))


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_tensor_header_is_refused(path: Path, lie: dict[str, Any]) -> None:
    header = read_header(path)
    header["encoder"] |= lie
    with pytest.raises(BadArtefact, match=r"not a safetensors file|encoder is"):
        verify(with_header(path, json.dumps(header).encode()))


@pytest.mark.parametrize("header", [b"{}", b"[]", b"3", b"", b"\x80\x04", b'{"encoder": 3}', b"[" * 10_000])
def test_a_header_that_is_none_is_refused(path: Path, header: bytes) -> None:
    with pytest.raises(BadArtefact, match=r"not a safetensors file|lacks"):
        verify(with_header(path, header))


def test_rows_outside_the_tables_are_refused(path: Path, tmp_path: Path) -> None:
    shared = load_file(path / "shared.safetensors")
    shared["predicted"][3] = 8
    save_file(shared, tmp_path / "new.safetensors")
    with pytest.raises(BadArtefact, match="predicted labels lie outside 0 to 7"):
        verify(replace_file(path, "shared.safetensors", (tmp_path / "new.safetensors").read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.tensors["mid"].pop("causal"), "lacks tensors causal"),
        (lambda made: made.tensors["mid"].update(extra=np.zeros(3)), "unknown tensors extra"),
        (lambda made: made.tensors["mid"].update(centre=np.zeros(3)), r"centre has shape \(3,\)"),
        (lambda made: made.tensors["mid"].update(attributions=np.full((240, 40), 1e6)), "not finite in float16"),
        (lambda made: made.tensors["mid"]["encoder"].fill(np.nan), "not finite"),
        (lambda made: made.tensors.pop("mid"), "differ in mid"),
        (lambda made: made.images.pop(), "239 names for 240 views"),
        (lambda made: made.manifest.update(created_at="today"), "created_at"),
        (lambda made: made.manifest["layers"].append(made.manifest["layers"][0]), "listed twice"),
    ],
)
def test_a_wrong_atlas_is_not_written(recipe: Any, tmp_path: Path, change: Any, message: str) -> None:
    made = recipe()
    change(made)
    with pytest.raises(BadArtefact, match=message):
        made.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_layer_names_those_there_are(path: Path) -> None:
    with pytest.raises(NotAligned, match="mid, logits"):
        verify_open(path).layer("layer9")
