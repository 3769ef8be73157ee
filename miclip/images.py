"""Encoded images to pixels, with format and size checked from the header before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from miclip.errors import InvalidInput, TooLarge
from miclip.settings import settings

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What may be sent; of an animation the first frame is read."""


def decode_image(data: bytes, *, field: str) -> Tensor:
    """Decode one image.

    Transparency is laid over white, EXIF orientation is applied, and grey, palette, CMYK and 16-bit images become RGB.

    Args:
        data: An encoded PNG, JPEG, WebP, GIF or BMP.
        field: Path of the request field, for messages.

    Returns:
        uint8 ``[3, H, W]``, laid out in memory as ``[H, W, 3]``.

    Raises:
        InvalidInput: the bytes are empty, no image of these formats, or broken, or the header announces more pixels
            than ``settings()`` allows; nothing is decoded then.
        TooLarge: there are more bytes than ``settings()`` allows.
    """
    with _opened(data, field) as image:
        return _pixels(image)


def check_image(data: bytes, *, field: str) -> None:
    """Raise what ``decode_image`` would raise; JPEGs are decoded at an eighth of their size, which is much faster."""
    with _opened(data, field) as image:
        image.draft("RGB", (1, 1))
        image.load()


@contextmanager
def _opened(data: bytes, field: str) -> Iterator[Image.Image]:
    limits = settings()
    if len(data) > limits.max_image_bytes:
        allowed = f"1 to {limits.max_image_bytes} bytes"
        raise TooLarge(f"{field}: {len(data)} bytes; allowed are {allowed}.", field=field, allowed=allowed)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size, field)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _invalid(field, "too many pixels") from error
    except UnidentifiedImageError as error:
        raise _invalid(field, "not an image of a known format" if data else "no bytes") from error
    except _BROKEN as error:
        raise _invalid(field, "a broken or truncated image") from error


# what Pillow's decoders raise on hostile bytes
_BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


def _check_size(width: int, height: int, field: str) -> None:
    limits = settings()
    longest, pixels = max(width, height), width * height
    if pixels < 1 or longest > limits.max_image_edge or pixels > limits.max_image_pixels:
        raise _invalid(field, f"{width}×{height} pixels")


def _pixels(image: Image.Image) -> Tensor:
    image.load()
    upright = _upright(image)
    if upright.mode.startswith("I"):
        upright = _sixteen_bit(upright)
    if upright.has_transparency_data:
        alpha = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", alpha.size, "white"), alpha)
    array = np.array(upright.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _BROKEN:
        return image  # unreadable metadata is no reason to refuse readable pixels


def _sixteen_bit(image: Image.Image) -> Image.Image:
    """Return 16-bit grey as 8-bit grey; Pillow's own conversion clips instead of scaling."""
    values = np.asarray(image.convert("I")).clip(0, 65535)
    return Image.fromarray((values // 257).astype(np.uint8), mode="L")


def _invalid(field: str, problem: str) -> InvalidInput:
    limits = settings()
    allowed = (
        f"PNG, JPEG, WebP, GIF or BMP of 1 to {limits.max_image_edge} pixels an edge "
        f"and at most {limits.max_image_pixels} pixels in all"
    )
    return InvalidInput(f"{field}: {problem}; send {allowed}.", field=field, allowed=allowed)
