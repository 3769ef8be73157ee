"""The picture that examples use: one of a drawing style that no shipped model was trained on."""

from __future__ import annotations

from pathlib import Path

import miclip


def example_image() -> Path:
    """Return the path of a picture of a dog that comes with the package."""
    return Path(miclip.__file__).parent / "demo" / "assets" / "images" / "twemoji" / "dog.webp"
