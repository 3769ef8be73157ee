"""Writing an atlas: to a temporary name, flushed to disk, then renamed to the hash of its manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from miclip.atlas.manifest import (
    MANIFEST,
    PROBE,
    SCHEMA_VERSION,
    SHARED,
    AtlasManifest,
    FileEntry,
    layer_file,
    pictures_file,
    shared_file,
    to_bytes,
)
from miclip.atlas.read import verify
from miclip.atlas.tensors import Array, conform, save
from miclip.errors import BadArtefact
from miclip.files import publish_folder, temporary_folder

_NO_PICTURES: Mapping[str, Mapping[str, Array]] = {}
_PLACEHOLDER = FileEntry(sha256="0" * 64, bytes=1)


def write_atlas(
    root: Path,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Array]],
    probe_images: Sequence[str],
    pictures: Mapping[str, Mapping[str, Array]] = _NO_PICTURES,
) -> str:
    """Write an atlas below ``root`` and return its id.

    Args:
        root: Directory of atlases; made when missing.
        manifest: Fields of ``AtlasManifest`` without ``schema_version``, ``files`` and the layers' ``file``.
        tensors: ``SHARED`` and every layer's name → its tensors (``SHARED_TENSORS``, ``LAYER_TENSORS`` or
            ``FEATURE_TENSORS`` and, where they are known, ``LABEL_TENSORS`` and the optional ones); they are cast to
            the dtypes named there.
        probe_images: Name of the probe image of every row, length ``probe.views``.
        pictures: Tensors of every entry of the manifest's ``pictures``.

    Returns:
        The SHA-256 of the manifest: the same content gives the same id. An intact atlas of that id is left alone.

    Raises:
        BadArtefact: the manifest or a tensor does not have the form above.
    """
    draft = _draft(manifest)
    if len(probe_images) != draft.probe.views:
        raise BadArtefact(f"probe_images has {len(probe_images)} names for {draft.probe.views} views.")
    contents = {**_conforming(draft, tensors), **_conforming_pictures(draft, pictures)}
    root.mkdir(parents=True, exist_ok=True)
    with temporary_folder(root / "atlas") as temporary:
        return _publish(root, temporary, draft, contents, probe_images)


def _draft(manifest: Mapping[str, Any]) -> AtlasManifest:
    layers = [{**layer, "file": layer_file(index)} for index, layer in enumerate(manifest.get("layers", ()))]
    pictures = map(pictures_file, manifest.get("pictures", ()))
    names = [shared_file(), PROBE, *pictures, *(layer["file"] for layer in layers)]
    files = dict.fromkeys(names, _PLACEHOLDER)
    try:
        return AtlasManifest.model_validate(
            {**manifest, "schema_version": SCHEMA_VERSION, "layers": layers, "files": files}
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BadArtefact(f"The manifest is not valid ({where}: {first['msg']}).") from error


def _conforming(draft: AtlasManifest, tensors: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, Array]]:
    if odd := {SHARED, *(layer.name for layer in draft.layers)} ^ set(tensors):
        raise BadArtefact(f"Tensors and layers of the manifest differ in {', '.join(sorted(odd))}.")
    spec, optional = draft.shared_shapes()
    contents = {shared_file(): conform(tensors[SHARED], spec, SHARED, optional)}
    for layer in draft.layers:
        spec, optional = draft.layer_shapes(layer)
        contents[layer.file] = conform(tensors[layer.name], spec, layer.name, optional)
    return contents


def _conforming_pictures(
    draft: AtlasManifest, pictures: Mapping[str, Mapping[str, Array]]
) -> dict[str, dict[str, Array]]:
    if odd := set(draft.pictures) ^ set(pictures):
        raise BadArtefact(f"Pictures given and those of the manifest differ in {', '.join(sorted(odd))}.")
    return {pictures_file(stem): conform(pictures[stem], draft.pictures_shapes(stem), stem) for stem in draft.pictures}


def _publish(
    root: Path, temporary: Path, draft: AtlasManifest, contents: dict[str, dict[str, Array]], images: Sequence[str]
) -> str:
    for name, content in contents.items():
        save(temporary / name, content)
    (temporary / PROBE).write_text(json.dumps(list(images), ensure_ascii=False), encoding="utf-8")
    files = {name: _entry(temporary / name) for name in draft.files}
    data = to_bytes(draft.model_copy(update={"files": files}))
    (temporary / MANIFEST).write_bytes(data)
    atlas_id = hashlib.sha256(data).hexdigest()
    _move(temporary, root / atlas_id)
    return atlas_id


def _move(temporary: Path, target: Path) -> None:
    if target.exists():
        try:
            verify(target)
            return
        except BadArtefact:
            shutil.rmtree(target)
    try:
        publish_folder(temporary, target)
    except OSError:
        if not target.is_dir():
            raise
        verify(target)  # another process wrote the same atlas meanwhile


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)
