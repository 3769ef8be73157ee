"""Names of a model's outputs: from a file, or those of ImageNet."""

from __future__ import annotations

import json
from pathlib import Path

from miclip.errors import InvalidInput
from miclip.models import _torchvision  # noqa: F401  (before open_clip)


def imagenet_labels() -> tuple[str, ...]:
    """Return OpenCLIP's names of the 1000 ImageNet-1k classes."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels: a JSON list, or one per line; raises InvalidInput."""
    try:
        text = path.read_text(encoding="utf-8")
        found = (
            json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError) as error:
        raise InvalidInput(f"labels: {path.name!r} cannot be read as text or JSON.", field="labels") from error
    if not isinstance(found, list) or not found or not all(isinstance(label, str) and label for label in found):
        allowed = "a JSON list of texts, or one label a line"
        raise InvalidInput(f"labels: {path.name!r} holds no labels.", field="labels", allowed=allowed)
    return tuple(found)
