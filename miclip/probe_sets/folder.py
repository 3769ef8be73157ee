"""A folder of image files; sub-folders are labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path

from miclip.probe_sets.source import IMAGE_SUFFIXES, Entry, Source


class FolderSource(Source):
    """Every image file under a directory, in the order of the paths; hidden files and folders are left out.

    The first folder of a file's relative path is its label.

    Args:
        directory: Searched recursively.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self.name, self.broken = directory, directory.resolve().name, []

    def _list(self) -> list[Entry]:
        names = [path.relative_to(self._directory) for path in sorted(image_files(self._directory))]
        return [Entry(str(name), str(name), name.parts[0] if len(name.parts) > 1 else None) for name in names]

    def find(self, name: str) -> Hashable | None:
        """Return the place of a name without listing the folder; None for a path that leaves it."""
        path = (self._directory / name).resolve()
        return name if path.is_relative_to(self._directory.resolve()) and path.is_file() else None

    def read(self, place: Hashable) -> bytes:
        """Return the bytes of a file; raises OSError."""
        return (self._directory / str(place)).read_bytes()


def image_files(directory: Path) -> Iterator[Path]:
    """Yield the files under a directory that are called images and are not hidden, in no order."""
    for path in directory.rglob("*"):
        if path.suffix.lower() in IMAGE_SUFFIXES and not _hidden(path.relative_to(directory)) and path.is_file():
            yield path


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
