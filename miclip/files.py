"""Replacing files and folders so that a reader finds the old or the new, whole, and never a part.

What is written goes to a temporary name beside the target, reaches the disk, and takes the target's name in one step.
The temporary name is of one call alone, so processes and threads that write the same path never meet in it: the last
one to finish wins.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PUBLIC: Final = 0o644
"""Mode of a file that servers of other users read, too."""
PRIVATE: Final = 0o600
"""Mode of a file for its owner alone."""


def write_file(path: Path, content: str | bytes, *, mode: int = PUBLIC) -> None:
    """Replace a file by some content; text is written as UTF-8, its line ends as they are.

    Args:
        path: What is replaced; its folder exists.
        content: All that the file then holds.
        mode: Permissions of the file, whatever the umask.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, mode: int = PUBLIC) -> Iterator[Path]:
    """Replace a file by what the block writes to the path that it is given; an exception leaves the old file.

    Args:
        path: What is replaced; its folder exists.
        mode: Permissions of the file once it bears its name; until then it is its owner's alone.

    Yields:
        An empty file in the same folder, which the block fills.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    temporary = temporary_name(path)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
    try:
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder beside ``path``, which is removed at the end unless :func:`publish_folder` renamed it.

    Yields:
        The folder; its name is of this call alone and begins with a dot.
    """
    temporary = temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(folder: Path, path: Path) -> None:
    """Bring a flat folder to the disk, then give it its name in the same parent.

    Raises:
        OSError: ``path`` is a folder with something in it, or a file; ``folder`` is left.
    """
    for file in (*folder.iterdir(), folder):
        sync(file)
    folder.rename(path)
    sync(path.parent)


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other call gives; it begins with a dot and ends in ``.tmp``."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
