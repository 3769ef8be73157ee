"""The images of a source as a probe set: checked, hashed and decoded when they are asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from torch import Tensor

from miclip.errors import InvalidInput, MiclipError
from miclip.images import check_image, decode_image
from miclip.probe_sets.find import ALLOWED, find_source
from miclip.probe_sets.source import LEAST, Entry, Source


class EncodedImages:
    """The images of a source that can be decoded; a :class:`miclip.alignment.ProbeSet`.

    Every image is read and checked once, one at a time, and then again when it is loaded: what is kept in memory are
    names, hashes and places.

    Args:
        source: Of the images.
        limit: Keep at most this many, evenly spread; 0 keeps all.
        least: Images that there must be.

    Attributes:
        listed: Number of images that were looked at.
        skipped: Names of those that are broken, too large or no images, and of files that could not be read.
        hashes: SHA-256 of every image's bytes, in order.
        labels: What every image shows, as the source writes it; None without a label.

    Raises:
        InvalidInput: there are fewer images than ``least``.
    """

    views = 1
    licence = "the user's images"

    def __init__(self, source: Source, limit: int = 0, least: int = LEAST) -> None:
        listed = _spread(source.entries, limit)
        checked = [(entry, _check(source, entry)) for entry in listed]
        kept = [(entry, *found) for entry, found in checked if found]
        self.listed, self._source = len(listed), source
        self.skipped = tuple([*source.broken, *(entry.name for entry, found in checked if not found)])
        if len(kept) < least:
            broken = f" ({len(self.skipped)} cannot be read)" if self.skipped else ""
            raise InvalidInput(
                f"images: found {len(kept)} images{broken}; an alignment needs at least {least} and is good from some "
                f"thousands on. Name {ALLOWED}.", field="images", allowed=f"{least} or more",
            )  # fmt: skip
        self.name = source.name
        self.names = tuple(entry.name for entry, _, _ in kept)
        self.labels = tuple(entry.label for entry, _, _ in kept)
        self.hashes = tuple(sha256 for _, _, sha256 in kept)
        self._places = [entry.place for entry, _, _ in kept]
        self.sha256 = hashlib.sha256(json.dumps([(entry.name, *rest) for entry, *rest in kept]).encode()).hexdigest()

    def read(self, row: int) -> bytes:
        """Return the encoded image of a row; raises InvalidInput where it is gone."""
        try:
            return self._source.read(self._places[row])
        except OSError as error:
            text = f"images: {self.names[row]!r} cannot be read any more. Leave the probe set as it is during a run."
            raise InvalidInput(text, field="images") from error

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return images ``start`` to ``stop``, each uint8 ``[3, H, W]``; raises InvalidInput naming a bad one."""
        rows = range(*slice(start, stop).indices(len(self.names)))
        return [decode_image(self.read(row), field=self.names[row]) for row in rows]


def open_images(path: Path, limit: int = 0, least: int = LEAST) -> EncodedImages:
    """Open the images at a path: see ``find_source`` and :class:`EncodedImages`."""
    return EncodedImages(find_source(path), limit, least)


def _spread(entries: list[Entry], limit: int) -> list[Entry]:
    if not limit or len(entries) <= limit:
        return entries
    return [entries[place * len(entries) // limit] for place in range(limit)]


def _check(source: Source, entry: Entry) -> tuple[int, str] | None:
    """Size and SHA-256 of an image; None where it cannot be decoded."""
    try:
        data = source.read(entry.place)
        check_image(data, field=entry.name)
    except (OSError, MiclipError):
        return None
    return len(data), hashlib.sha256(data).hexdigest()
