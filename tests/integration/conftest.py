"""What the integration tests share."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small image that is fine."""
    rng = np.random.default_rng(0)
    return encoded(rng.integers(0, 255, (48, 64, 3), np.uint8))


@pytest.fixture(scope="session")
def bad_images(png: bytes) -> dict[str, bytes]:
    """Images that must be refused, by what is wrong with them."""
    return {
        "empty": b"",
        "not an image": b"hello, this is text",
        "truncated": png[: len(png) // 2],
        "header of 65535 by 65535": header(65_535, 65_535),
        "bomb": header(16_000, 16_000) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b""),
        "pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins",
    }


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def header(width: int, height: int) -> bytes:
    """A PNG's signature and header."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
