"""Where the shipped assets lie, and the drawings among them."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from miclip.demo.concepts import CLASSES, slugify

ASSETS = Path(__file__).parent / "assets"
MODELS = ASSETS / "models"
IMAGES = ASSETS / "images"
ATLASES = ASSETS / "atlases"


@lru_cache(maxsize=8)
def drawings(style: str) -> Tensor:
    """Return the style's drawing of every class, in the order of ``CLASSES``: uint8 ``[K, 4, 96, 96]`` RGBA."""
    pixels = [
        np.asarray(Image.open(io.BytesIO((IMAGES / style / f"{slugify(name)}.webp").read_bytes())).convert("RGBA"))
        for name in CLASSES
    ]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
