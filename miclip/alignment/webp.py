"""Pictures for the files of an atlas: shrunk, encoded as WebP, and put one behind the other."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_WIDEST = 8
"""Aspect ratio beyond which the ends of an image are cut: a strip would be large, and WebP has a longest edge."""


def shrink(image: Tensor, edge: int, *, longest: bool) -> Image.Image:
    """Shrink an image until its longest or its shortest edge is ``edge`` pixels; a smaller one stays as it is.

    Args:
        image: uint8 ``[3, H, W]``.
        edge: In pixels.
        longest: Whether the longest edge counts.
    """
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    pixels = _trim(pixels)
    scale = edge / (max(pixels.size) if longest else min(pixels.size))
    if scale >= 1:
        return pixels
    width, height = (max(1, round(side * scale)) for side in pixels.size)
    return pixels.resize((width, height), Image.Resampling.LANCZOS)


def encode_webp(image: Image.Image, quality: int) -> bytes:
    """Encode an image as WebP; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def pack(pictures: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """Return ``ends`` and ``data`` of pictures, at least one: see ``miclip.atlas.pictures``."""
    ends = np.cumsum([len(picture) for picture in pictures])
    return {"ends": ends.astype(np.int32), "data": np.frombuffer(b"".join(pictures), np.uint8)}


def _trim(pixels: Image.Image) -> Image.Image:
    width, height = pixels.size
    longest = _WIDEST * min(pixels.size)
    across, down = min(width, longest), min(height, longest)
    left, top = (width - across) // 2, (height - down) // 2
    return pixels.crop((left, top, left + across, top + down))
