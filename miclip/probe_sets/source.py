"""Where encoded images come from: a list of entries, each of which can be read at any time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""What the name of an image ends in, in small letters."""
LEAST: Final = 16
"""Images that an alignment needs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that is called an image; nothing of it has been decoded.

    Attributes:
        name: Stable name, the same whenever the source is opened.
        place: Where the source finds it; means nothing to others.
        label: What it shows, as the source writes it: the name of a class, or its number in digits. None without one.
    """

    name: str
    place: Hashable
    label: str | None = None


class Source(ABC):
    """Encoded images by name. Listing them reads names, labels and places, and never the images.

    Attributes:
        name: Short name of the whole.
        broken: Names of files of the source that could not be listed; complete once ``entries`` has been read.
    """

    name: str
    broken: list[str]

    @cached_property
    def entries(self) -> list[Entry]:
        """All that is called an image, in a stable order; every name once."""
        found: list[Entry] = []
        seen: dict[str, int] = {}
        for entry in self._list():
            count = seen[entry.name] = seen.get(entry.name, 0) + 1
            found.append(entry if count == 1 else Entry(f"{entry.name}~{count}", entry.place, entry.label))
        return found

    @cached_property
    def _places(self) -> dict[str, Hashable]:
        return {entry.name: entry.place for entry in self.entries}

    def find(self, name: str) -> Hashable | None:
        """Return the place of a name; None where there is no such entry."""
        return self._places.get(name)

    @abstractmethod
    def _list(self) -> list[Entry]:
        """List the entries; names may repeat."""

    @abstractmethod
    def read(self, place: Hashable) -> bytes:
        """Return the encoded image of an entry's place, empty where there is none.

        Raises:
            OSError: the file is missing or broken.
        """
