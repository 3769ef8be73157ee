"""Probe images in other colours: what a label must hold on besides the images that made it.

A model has often seen its probe images in training, and then does on them what it does nowhere else. Of the changes
tried (grey, permuted channels, blur, fewer tones, crops, contours, colours), random saturation, contrast and tint move
the share of right labels to what it is on the drawing style that settings are chosen by: see docs/labels.md.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from miclip.alignment.probe import ProbeSet

_SEED = 1_000_003


class Recoloured:
    """The images of some rows of a probe set, recoloured; a :class:`miclip.alignment.ProbeSet`.

    Args:
        probe: The probe set.
        rows: Its rows, ascending.
    """

    views = 1

    def __init__(self, probe: ProbeSet, rows: list[int]) -> None:
        self._probe, self._rows = probe, rows
        self.name, self.licence = f"{probe.name}, recoloured", probe.licence
        self.names = tuple(probe.names[row] for row in rows)
        self.sha256 = hashlib.sha256(f"recoloured {probe.sha256} {rows}".encode()).hexdigest()

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return images ``start`` to ``stop``, each uint8 ``[3, H, W]``; every row has randomness of its own."""
        return [self._load(row) for row in self._rows[start:stop]]

    def _load(self, row: int) -> Tensor:
        (image,) = self._probe.load(row, row + 1)
        return recolour(image, torch.Generator().manual_seed(_SEED + row))


def recolour(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return an image uint8 ``[3, H, W]`` with saturation ×0 to 2, contrast ×0.4 to 1.6 and a tint of ×0.6 to 1.4."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    pixels = image.float() / 255
    grey = pixels.mean(dim=0, keepdim=True)
    pixels = grey + (pixels - grey) * uniform(0, 2, 1, 1, 1)
    middle = pixels.mean()
    pixels = middle + (pixels - middle) * uniform(0.4, 1.6, 1, 1, 1)
    pixels = pixels * uniform(0.6, 1.4, 3, 1, 1)
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
