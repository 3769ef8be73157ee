"""The picture that examples use: one of a drawing style that no shipped model was trained on."""

from __future__ import annotations

import os
from pathlib import Path

import miclip


def example_image() -> Path:
    """Return the path of a picture of a dog that comes with the package."""
    return Path(miclip.__file__).parent / "demo" / "assets" / "images" / "twemoji" / "dog.webp"


def short(path: Path) -> str:
    """Return the shorter of the absolute path and the one from the current directory."""
    return min(str(path), os.path.relpath(path), key=len)
