"""WebDataset shards: tar files of images, with labels beside them. Nothing is unpacked.

Python's ``tarfile`` lists the members; an image is then one ``seek`` and one ``read`` away, so that rows can be had in
any order and a stopped run goes on in the middle. A shard that is compressed as a whole cannot be read so.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import cast

from miclip.probe_sets.source import IMAGE_SUFFIXES, Entry, Source
from miclip.settings import settings

_LABEL_KEYS = ("label", "class", "cls", "class_name", "label_name")
_MOST_LABEL_BYTES = 2**20


@dataclass
class _Sample:
    """Members that share a key: the path up to the first dot of its last part."""

    images: list[tuple[str, int, int]] = field(default_factory=list)
    label: str | None = None


class ShardSource(Source):
    """The images of tar files, shard by shard, in the order of the members.

    The label of a sample is its ``.cls`` member, a label of its ``.json`` member, or else the first folder of its path.

    Args:
        shards: Tar files, in order.
        name: Short name of the whole.
        root: Folder that the names of the shards are relative to.
    """

    def __init__(self, shards: Sequence[Path], name: str, root: Path) -> None:
        self._shards, self._root, self.name, self.broken = tuple(shards), root, name, []

    def _list(self) -> list[Entry]:
        found = []
        for index, shard in enumerate(self._shards):
            prefix = f"{shard.relative_to(self._root)}/" if len(self._shards) > 1 else ""
            for sample in self._samples(shard).values():
                found += [Entry(prefix + name, (index, at, size), sample.label) for name, at, size in sample.images]
        return found

    def read(self, place: Hashable) -> bytes:
        """Return the bytes of a member, few more than an image may have; raises OSError for a shard that is cut."""
        index, at, size = cast("tuple[int, int, int]", place)
        size = min(size, settings().max_image_bytes + 1)
        with self._shards[index].open("rb", buffering=0) as file:
            file.seek(at)
            data = file.read(size)
        if len(data) != size:
            raise OSError("The shard ends within the image.")
        return data

    def _samples(self, shard: Path) -> dict[str, _Sample]:
        """Samples by key. What a shard holds before its broken part is used."""
        samples: dict[str, _Sample] = {}
        try:
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    _add(samples, tar, member)
        except (OSError, tarfile.TarError):
            self.broken.append(str(shard.relative_to(self._root)))
        return samples


def _add(samples: dict[str, _Sample], tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    stem, _, extension = path.name.partition(".")
    if not stem or not member.isreg() or member.issparse() or any(part.startswith(".") for part in path.parts[:-1]):
        return
    suffix = "." + extension.lower().rpartition(".")[2]
    if suffix not in (*IMAGE_SUFFIXES, ".cls", ".json"):
        return
    sample = samples.setdefault(str(path.with_name(stem)), _Sample(label=path.parts[0] if path.parts[1:] else None))
    if suffix in IMAGE_SUFFIXES:
        sample.images.append((member.name, member.offset_data, member.size))
    elif member.size <= _MOST_LABEL_BYTES and (file := tar.extractfile(member)):  # a stream of bytes, no file on disk
        sample.label = _label(file.read(), suffix) or sample.label


def _label(data: bytes, suffix: str) -> str | None:
    text = data.decode("utf-8", "replace").strip()
    if suffix == ".cls":
        return text or None
    try:
        described = json.loads(text)
    except ValueError:
        return None
    values = [described[key] for key in _LABEL_KEYS if key in described] if isinstance(described, dict) else []
    return str(values[0]) if values and isinstance(values[0], str | int) else None
