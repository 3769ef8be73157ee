"""From what a user names to a source of images."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from miclip.errors import InvalidInput
from miclip.probe_sets.folder import FolderSource, image_files
from miclip.probe_sets.shards import ShardSource
from miclip.probe_sets.source import Source
from miclip.probe_sets.tables import ArrowSource, ParquetSource

ALLOWED: Final = (
    "a folder of images, WebDataset shards (a .tar, a folder of them, or 'shards/{000..003}.tar'), Parquet files, or a "
    "dataset that Hugging Face's save_to_disk wrote"
)
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_FILES: Final = 100_000
_COMPRESSED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def find_source(path: Path) -> Source:
    """Return the source of images at a path; nothing of the images is read.

    Args:
        path: A folder of images, a ``.tar``, a ``.parquet``, a folder of either, files of one kind as
            ``shards/{000..003}.tar``, or a folder that ``datasets.Dataset.save_to_disk`` wrote.

    Raises:
        InvalidInput: there is nothing there, or nothing of these kinds.
    """
    if _RANGE.search(str(path)):
        return _of_files(_expand(path), re.sub(_RANGE, r"\1-\2", path.stem), path.parent)
    if path.is_file():
        return _of_files([path], path.stem, path.parent)
    if not path.is_dir():
        raise InvalidInput(f"images: there is no {path.name!r}. Name {ALLOWED}.", field="images", allowed=ALLOWED)
    return _saved(path) or _files_in(path) or FolderSource(path)


def _of_files(files: Sequence[Path], name: str, root: Path) -> Source:
    suffixes = {file.suffix.lower() for file in files}
    if suffixes == {".tar"}:
        return ShardSource(files, name, _root(files, root))
    if suffixes == {".parquet"}:
        return ParquetSource(files, name, _root(files, root))
    if any(file.name.lower().endswith(_COMPRESSED) for file in files):
        text = f"images: {files[0].name!r} is compressed as a whole, so its images cannot be found one by one. Unpack "
        raise InvalidInput(text + "it to a plain .tar; the images in it stay as they are.", field="images",
                           allowed="plain .tar files")  # fmt: skip
    raise InvalidInput(f"images: {files[0].name!r} is no probe set. Name {ALLOWED}.", field="images", allowed=ALLOWED)


def _root(files: Sequence[Path], root: Path) -> Path:
    return root if all(file.is_relative_to(root) for file in files) else Path()


def _expand(path: Path) -> list[Path]:
    """The files that ``{000..003}`` stands for; raises InvalidInput for too many, or one that is missing."""
    ranges, text = _RANGE.findall(str(path)), str(path)
    counts = [abs(int(last) - int(first)) + 1 for first, last in ranges]
    total = 1
    for count in counts:
        total *= count
    if total > _MOST_FILES:
        allowed = f"1 to {_MOST_FILES} files"
        raise InvalidInput(f"images: {path.name!r} names {total} files; allowed are {allowed}.", field="images",
                           allowed=allowed)  # fmt: skip
    template = _RANGE.sub("\0", text).split("\0")
    files = []
    for numbers in product(*(_numbers(first, last) for first, last in ranges)):
        files.append(Path("".join(part for pair in zip(template, (*numbers, ""), strict=True) for part in pair)))
    if missing := [file.name for file in files if not file.is_file()]:
        text = f"images: {len(missing)} of the {total} files of {path.name!r} are missing, {missing[0]!r} first."
        raise InvalidInput(text, field="images", allowed="files that exist")
    return files


def _numbers(first: str, last: str) -> list[str]:
    low, high = sorted((int(first), int(last)))
    return [str(number).zfill(len(first)) for number in range(low, high + 1)]


def _saved(path: Path) -> Source | None:
    """A dataset of ``save_to_disk``; of several splits, the only one."""
    if (path / "dataset_dict.json").is_file():
        named = [Path(str(name)).name for name in _read(path / "dataset_dict.json", "splits")]
        splits = [name for name in named if (path / name).is_dir()]
        if len(splits) != 1:
            names = ", ".join(f"{path.name}/{name}" for name in splits) or "none"
            text = f"images: {path.name!r} holds {len(splits)} splits. Name one of them: {names}."
            raise InvalidInput(text, field="images", allowed=names)
        return _saved(path / splits[0])
    if not ((path / "state.json").is_file() and (path / "dataset_info.json").is_file()):
        return None
    files = [path / Path(str(file["filename"])).name for file in _read(path / "state.json", "_data_files")]
    return ArrowSource(files, path.resolve().name, path)


def _read(file: Path, key: str) -> list[Any]:
    try:
        value = json.loads(file.read_bytes())[key]
    except (OSError, ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, list):
        text = f"images: {file.name!r} of {file.parent.name!r} is broken. Save the dataset again."
        raise InvalidInput(text, field="images", allowed="a folder that save_to_disk wrote")
    return value


def _files_in(path: Path) -> Source | None:
    """The shards or tables of a folder that holds no images of its own."""
    if next(image_files(path), None):  # first, for it ends at the first of a million images
        return None
    tables, shards = sorted(path.rglob("*.parquet")), sorted(path.rglob("*.tar"))
    if not (tables or shards):
        return None
    if tables and shards:
        text = f"images: {path.name!r} holds both shards and Parquet files. Name one kind."
        raise InvalidInput(text, field="images", allowed=ALLOWED)
    return _of_files(shards or tables, path.resolve().name, path)
