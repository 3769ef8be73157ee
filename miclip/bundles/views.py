"""The images of a bundle: fixed, seeded views of its drawings."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from miclip.bundles.augment import evaluation_views
from miclip.bundles.bundle import Bundle
from miclip.bundles.manifest import BundleImages, ImageSet
from miclip.errors import BadArtefact, NotFound

_MAX_SEED_ROWS = 1_000_003


class DrawingViews:
    """Seeded views of a bundle's drawings; a :class:`miclip.alignment.ProbeSet`.

    Rows are ordered by view, then style, then label.

    Args:
        bundle: Holds the drawings.
        images: Which styles, and how many views.

    Attributes:
        labels: Place of each row's label among the bundle's labels, int64 ``[N]``.

    Raises:
        NotFound: the bundle has no images.
        BadArtefact: an image is missing or broken.
    """

    def __init__(self, bundle: Bundle, images: ImageSet) -> None:
        described = images_of(bundle)
        self.name, self.views, self.licence = images.name, images.views, described.licence
        files = tuple(described.files.values())
        self._pixels = torch.cat([read_drawings(bundle.folder / "images" / style, files) for style in images.styles])
        self._seed, self._augment = images.seed, evaluation_views(described.size)
        sources = [f"{style}/{label}" for style in images.styles for label in described.labels]
        self.names = tuple(f"{source}#{view}" for view in range(images.views) for source in sources)
        self.labels = torch.arange(len(files)).repeat(len(images.styles) * images.views)
        recipe = json.dumps([images.seed, self.names, repr(vars(self._augment))]).encode()
        self.sha256 = hashlib.sha256(self._pixels.numpy().tobytes() + recipe).hexdigest()

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return rows ``start`` to ``stop``, each uint8 ``[3, S, S]``; every row has randomness of its own."""
        return [self._view(row) for row in range(start, stop)]

    def masks(self, start: int, stop: int) -> Tensor:
        """Return how much of each pixel of rows ``start`` to ``stop`` the drawing covers, float32 ``[n, S, S]``."""
        return torch.cat([self._augment.masks(*self._source(row)) for row in range(start, stop)])

    def _view(self, row: int) -> Tensor:
        return (self._augment(*self._source(row))[0] * 255).round().to(torch.uint8)

    def _source(self, row: int) -> tuple[Tensor, torch.Generator]:
        """A row's drawing, uint8 ``[1, 4, E, E]``, and the randomness of its view."""
        generator = torch.Generator().manual_seed(self._seed * _MAX_SEED_ROWS + row)
        return self._pixels[row % len(self._pixels)][None], generator


def images_of(bundle: Bundle) -> BundleImages:
    """Return what a bundle says of its images; raises NotFound where it has none."""
    images = bundle.manifest.images
    if images is None:
        raise NotFound(f"The bundle {bundle.manifest.name!r} has no images.", field="probe_set")
    return images


@lru_cache(maxsize=8)
def read_drawings(folder: Path, files: tuple[str, ...]) -> Tensor:
    """Return the drawings ``{file}.webp`` of a folder, in order: uint8 ``[K, 4, E, E]`` RGBA; raises BadArtefact."""
    try:
        pixels = [np.asarray(Image.open(folder / f"{file}.webp").convert("RGBA")) for file in files]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise BadArtefact(f"The drawings of style {folder.name!r} are missing, broken or of several sizes.") from error
