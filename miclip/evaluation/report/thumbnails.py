"""Small pictures inside the page, as WebP in data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from miclip.evaluation.report.markup import Html, el

EDGE = 96
"""Longer edge of a thumbnail in pixels."""


def thumbnail(pixels: NDArray[np.uint8] | Tensor, alt: str, *, class_: str | None = None) -> Html:
    """Return an ``img`` that holds its picture.

    Args:
        pixels: uint8 ``[H, W, 3]``, or a tensor ``[3, H, W]``.
        alt: What it shows, for those who do not see it.
        class_: CSS class.
    """
    array = pixels.permute(1, 2, 0).contiguous().numpy() if isinstance(pixels, Tensor) else pixels
    image = Image.fromarray(array)
    image.thumbnail((EDGE, EDGE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=4)
    data = base64.b64encode(buffer.getvalue()).decode()
    return el("img", src=f"data:image/webp;base64,{data}", alt=alt, title=alt, class_=class_, width=image.width,
              height=image.height)  # fmt: skip
