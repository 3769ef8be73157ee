"""Small pictures inside the page, as WebP in data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

EDGE = 96
"""Longer edge of a thumbnail in pixels."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture: its data URI, what it shows for those who do not see it, and its size in pixels."""

    source: str
    alt: str
    width: int
    height: int


def thumbnail(pixels: NDArray[np.uint8] | Tensor, alt: str) -> Thumbnail:
    """Return a picture that the page holds.

    Args:
        pixels: uint8 ``[H, W, 3]``, or a tensor ``[3, H, W]``.
        alt: What it shows.
    """
    array = pixels.permute(1, 2, 0).contiguous().numpy() if isinstance(pixels, Tensor) else pixels
    image = Image.fromarray(array)
    image.thumbnail((EDGE, EDGE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=4)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(f"data:image/webp;base64,{data}", alt, image.width, image.height)
