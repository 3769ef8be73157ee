from __future__ import annotations

import io
import struct
import zlib

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from miclip.errors import InvalidInput, TooLarge
from miclip.images import decode_image
from miclip.settings import settings

# Pillow warns of broken metadata, which is no reason to refuse an image
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

FIELD = "images[2]"
PATTERN = np.kron(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]]), np.ones((8, 12, 1)))
RGB = Image.fromarray(PATTERN.astype(np.uint8))  # 24 wide, 16 high: red, green / blue, yellow


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def decode(data: bytes) -> Tensor:
    return decode_image(data, field=FIELD)


def corners(pixels: Tensor) -> list[list[int]]:
    return [pixels[:, y, x].tolist() for y in (2, -3) for x in (2, -3)]


def png(width: int, height: int, *, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_lossless_formats_give_the_exact_pixels(form: str) -> None:
    pixels = decode(encode(RGB, form, **({"lossless": True} if form == "WEBP" else {})))
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 16, 24))
    assert torch.equal(pixels, torch.from_numpy(PATTERN.astype(np.uint8)).permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpeg_modes_become_rgb(mode: str) -> None:
    pixels = decode(encode(RGB.convert(mode), "JPEG", quality=95))
    expected = np.asarray(RGB.convert(mode).convert("RGB")).transpose(2, 0, 1)
    assert np.abs(pixels.numpy().astype(int) - expected)[:, 2:-2, 2:-2].mean() < 12


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        data = encode(frames[0], form, save_all=True, append_images=frames[1:])
        assert decode(data)[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_palettes_and_single_bits_become_rgb() -> None:
    assert corners(decode(encode(RGB.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"))) == corners(
        decode(encode(RGB, "PNG"))
    )
    assert decode(encode(Image.new("1", (5, 4), 1), "PNG")).unique().tolist() == [255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 5, 10))
    if mode == "P":
        palette = Image.new("P", (10, 10), 1)
        palette.putpalette([0, 0, 0, 10, 20, 30])
        palette.paste(0, (0, 0, 5, 10))
        data = encode(palette, "PNG", transparency=1)
    else:
        data = encode(image.convert(mode), "PNG")
    pixels = decode(data)
    assert pixels[:, 5, 1].tolist() == [0, 0, 0]
    assert pixels[:, 5, 8].tolist() == [255, 255, 255]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.array([[0, 257 * 64, 257 * 128, 65535]], dtype=np.uint16)
    assert decode(encode(Image.fromarray(ramp), "PNG"))[0].tolist() == [[0, 64, 128, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = RGB.transpose(undo[orientation]) if orientation > 1 else RGB
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form in ("PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        pixels = decode(encode(stored, form, exif=exif, **options))
        assert torch.equal(pixels, decode(encode(RGB, "PNG")))


def test_unreadable_exif_does_not_refuse_readable_pixels() -> None:
    data = encode(RGB, "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + bytes(20))
    assert torch.equal(decode(data), decode(encode(RGB, "PNG")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image at all",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encode(RGB, "TIFF"),
        encode(RGB, "PNG")[:60],
        encode(RGB, "JPEG")[:400],
        encode(RGB, "WEBP")[:60],
        encode(RGB, "GIF")[:30],
        encode(RGB, "BMP")[:300],
        png(24, 16, body=b"\x00\x01\x02"),
        png(0, 5),
    ],
    ids=["empty", "text", "svg", "tiff", "png", "jpeg", "webp", "gif", "bmp", "garbage", "no width"],
)
def test_what_is_no_whole_image_is_refused_by_field_and_limits(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(data)
    assert caught.value.field == FIELD
    assert str(caught.value).startswith(FIELD)
    assert "PNG, JPEG, WebP, GIF or BMP" in str(caught.value)
    assert str(settings().max_image_edge) in str(caught.value)


@pytest.mark.parametrize("size", [(65535, 65535), (2**31 - 1, 1), (16_385, 1), (8000, 8000)])
def test_a_header_that_announces_too_much_is_refused_before_decoding(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InvalidInput, match="16384 pixels an edge") as caught:
        decode(png(*size))
    assert caught.value.field == FIELD


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = png(60_000, 60_000, body=zlib.compress(bytes(2**24), 9))
    assert len(bomb) < 2**15
    with pytest.raises(InvalidInput, match="pixels"):
        decode(bomb)


def test_a_bomb_in_a_text_chunk_is_refused() -> None:
    packed = zlib.compress(bytes(2**27), 9)
    text = b"zTXt" + b"a\x00\x00" + packed
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    data = encode(RGB, "PNG")
    with pytest.raises(InvalidInput):
        decode(data[:33] + chunk + data[33:])


def test_too_many_bytes_are_too_large() -> None:
    with pytest.raises(TooLarge, match=str(settings().max_image_bytes)) as caught:
        decode(bytes(settings().max_image_bytes + 1))
    assert caught.value.field == FIELD


MAGIC = [encode(RGB, form)[:cut] for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP") for cut in (4, 12, 30)]


@hypothesis.settings(deadline=None, max_examples=300)
@given(st.sampled_from([b"", *MAGIC]), st.binary(max_size=200))
def test_random_bytes_are_refused_or_decoded_and_nothing_else(start: bytes, rest: bytes) -> None:
    try:
        pixels = decode(start + rest)
    except (InvalidInput, TooLarge) as error:
        assert error.field == FIELD
    else:
        assert (pixels.dtype, pixels.shape[0]) == (torch.uint8, 3)


WHOLE = [encode(RGB, form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]


@hypothesis.settings(deadline=None, max_examples=400)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_are_refused_or_decoded_and_nothing_else(data: bytes, flips: list[tuple[int, int]]) -> None:
    broken = bytearray(data)
    for position, value in flips:
        broken[position % len(broken)] = value
    try:
        pixels = decode(bytes(broken))
    except (InvalidInput, TooLarge) as error:
        assert error.field == FIELD
    else:
        assert (pixels.dtype, pixels.shape[0]) == (torch.uint8, 3)
