"""The demo's probe set and its held-out images: fixed, seeded views of the shipped drawings."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor

from miclip.demo.architectures import IMAGE_SIZE
from miclip.demo.assets import drawings
from miclip.demo.augment import evaluation_views
from miclip.demo.concepts import CLASSES, HELD_OUT_STYLE, TRAIN_STYLES

PROBE_VIEWS = 4
EVALUATION_VIEWS = 16


class StyleViews:
    """Seeded views of the classes in some drawing styles; a :class:`miclip.alignment.ProbeSet`.

    Rows are ordered by view, then style, then class.

    Args:
        name: Name of the probe set.
        styles: Drawing styles.
        views: Views per drawing.
        seed: Seed of the views.
    """

    licence = "Drawings under Apache-2.0, MIT and CC-BY-4.0; see NOTICE."

    def __init__(self, name: str, styles: tuple[str, ...], views: int, seed: int = 0) -> None:
        self.name, self.views = name, views
        self._pixels = torch.cat([drawings(style) for style in styles])
        self._seed, self._augment = seed, evaluation_views(IMAGE_SIZE)
        sources = [f"{style}/{label}" for style in styles for label in CLASSES]
        self.names = tuple(f"{source}#{view}" for view in range(views) for source in sources)
        self.labels = torch.arange(len(CLASSES)).repeat(len(styles) * views)
        described = json.dumps([seed, self.names, repr(vars(self._augment))]).encode()
        self.sha256 = hashlib.sha256(self._pixels.numpy().tobytes() + described).hexdigest()

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return rows ``start`` to ``stop``, each uint8 ``[3, 64, 64]``; every row has randomness of its own."""
        return [self._view(row) for row in range(start, stop)]

    def masks(self, start: int, stop: int) -> Tensor:
        """Return how much of each pixel of rows ``start`` to ``stop`` the drawing covers, float32 ``[n, 64, 64]``."""
        return torch.cat([self._augment.masks(*self._source(row)) for row in range(start, stop)])

    def _view(self, row: int) -> Tensor:
        return (self._augment(*self._source(row))[0] * 255).round().to(torch.uint8)

    def _source(self, row: int) -> tuple[Tensor, torch.Generator]:
        """A row's drawing, uint8 ``[1, 4, 96, 96]``, and the randomness of its view."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + row)
        return self._pixels[row % len(self._pixels)][None], generator


def demo_probe(seed: int = 0) -> StyleViews:
    """Return the probe set that the shipped atlases were aligned on (``seed`` 0), or one with other views."""
    return StyleViews("demo", TRAIN_STYLES, PROBE_VIEWS, seed)


def held_out(style: str = HELD_OUT_STYLE) -> StyleViews:
    """Return the fixed evaluation views of the held-out style (or of another one)."""
    return StyleViews(f"held-out-{style}", (style,), EVALUATION_VIEWS, seed=7_919)


def dictionary_probe(views: int) -> StyleViews:
    """Return the images that the shipped dictionaries were trained on: more views than the probe set has."""
    return StyleViews("demo-dictionary", TRAIN_STYLES, views, seed=11)
