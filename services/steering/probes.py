"""The images that receipts are measured on: those of the request, or held-out drawings of the demo."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from miclip.errors import InvalidInput

_TARGET_VIEWS = 16
_PLAIN_VIEWS = 1
_OVERLAP = 0.5


class Probes(Protocol):
    """Where images come from."""

    def images(self, target: int | None) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """Encoded images and the label that each shows; None where the model has to say."""
        ...


class GivenProbes:
    """Images of the request; what they show is what the unsteered model says."""

    def __init__(self, images: Sequence[bytes]) -> None:
        self._images = images

    def images(self, target: int | None) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """The images, and no labels."""
        return self._images, None


class DemoProbes:
    """Views of the demo's held-out drawings, a style that no part of the demo was trained on.

    Args:
        labels: Labels of the model.

    Raises:
        InvalidInput: the model is not about the demo's concepts.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        from miclip.demo.concepts import CLASSES

        known = {name: row for row, name in enumerate(CLASSES)}
        self._rows = {index: known[label] for index, label in enumerate(labels) if label in known}
        if len(self._rows) < _OVERLAP * len(labels):
            text = "The server has no images of this model's labels; send some, of the target and of other labels."
            raise InvalidInput(text, field="images", allowed="images that show labels of the model")

    def images(self, target: int | None) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """One view of every label, sixteen of the target."""
        encoded, shown = [], []
        for label, row in self._rows.items():
            for view in range(_TARGET_VIEWS if label == target else _PLAIN_VIEWS):
                encoded.append(_drawing(row, view))
                shown.append(label)
        return encoded, shown


@lru_cache(maxsize=4096)
def _drawing(row: int, view: int) -> bytes:
    from PIL import Image

    from miclip.demo.concepts import CLASSES

    views = _held_out()
    index = view * len(CLASSES) + row
    pixels = views.load(index, index + 1)[0]
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _held_out():  # type: ignore[no-untyped-def]  # importing the type would import torch
    from miclip.demo.probe import held_out

    return held_out()
