"""Image files of a command: found, read, named in errors, and shrunk where a server would refuse them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miclip.cli import photos
from miclip.errors import InvalidInput, NotFound
from miclip.images import decode_image
from miclip.settings import settings


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """At most 5 megapixels, of 1 MB and 5000 pixels an edge."""
    monkeypatch.setenv("MICLIP_MAX_IMAGE_PIXELS", "5000000")
    monkeypatch.setenv("MICLIP_MAX_IMAGE_BYTES", "1000000")
    monkeypatch.setenv("MICLIP_MAX_IMAGE_EDGE", "5000")
    settings.cache_clear()
    yield
    settings.cache_clear()


def half_red(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """White, with a red left half."""
    image = Image.new(mode, (width, height), "white")
    image.paste("red", (0, 0, width // 2, height))
    return image


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "form"), [((3000, 2000), "JPEG"), ((3000, 2000), "PNG"), ((5200, 100), "WEBP")])
def test_an_image_above_the_limits_is_shrunk_and_looks_the_same(
    size: tuple[int, int], form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = encoded(half_red(*size), form)
    with pytest.raises(InvalidInput):
        decode_image(data, field="image")
    small = decode_image(photos.shrink(data, "a.x"), field="image")
    assert max(small.shape[1:]) == 2048
    assert small.shape[2] / small.shape[1] == pytest.approx(size[0] / size[1], rel=0.02)
    left, right = small[:, 20, 200].tolist(), small[:, 20, -200].tolist()
    assert left == pytest.approx([255, 0, 0], abs=8)
    assert right == pytest.approx([255] * 3, abs=8)
    assert f"a.x: {size[0]}×{size[1]} pixels" in capsys.readouterr().err


def test_the_orientation_of_a_photograph_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right: what is left comes to the top
    small = decode_image(photos.shrink(encoded(half_red(3000, 2000), "JPEG", exif=exif), "a"), field="image")
    assert tuple(small.shape[1:]) == (2048, 1365)
    assert small[:, 100, 700].tolist() == pytest.approx([255, 0, 0], abs=8)
    assert small[:, -100, 700].tolist() == pytest.approx([255] * 3, abs=8)


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (3000, 2000), (0, 0, 0, 0))
    assert decode_image(photos.shrink(encoded(clear, "PNG"), "a"), field="image").min() >= 250


def test_sixteen_bit_grey_is_not_clipped() -> None:
    grey = Image.fromarray(np.full((2000, 3000), 0x4000, np.uint16))
    small = decode_image(photos.shrink(encoded(grey, "PNG"), "a"), field="image")
    assert int(small.float().mean()) == pytest.approx(0x40, abs=2)


def test_too_many_bytes_are_shrunk_too() -> None:
    noise = np.random.default_rng(0).integers(96, 128, (1000, 1000, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")
    assert len(data) > 1_000_000 >= len(photos.shrink(data, "a"))


def test_what_is_within_the_limits_or_no_image_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for data in (encoded(half_red(2000, 2000), "JPEG"), b"", b"no image", encoded(half_red(3000, 2000), "PNG")[:200]):
        assert photos.shrink(data, "a") == data
    assert capsys.readouterr().err == ""


def test_a_folder_stands_for_the_images_in_it(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "deep/c.webp", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    files = photos.image_files([tmp_path / "notes.txt", tmp_path])
    assert [file.name for file in files] == ["notes.txt", "a.JPG", "b.png", "c.webp"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no images"):
        photos.image_files([tmp_path / "empty"])


def test_batches_hold_what_a_request_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICLIP_MAX_IMAGES", "3")
    monkeypatch.setenv("MICLIP_MAX_MESSAGE_BYTES", "100000")
    settings.cache_clear()
    files = [tmp_path / str(number) for number in range(6)]
    for file, size in zip(files, (1, 1, 1, 50_000, 50_000, 1), strict=True):
        file.write_bytes(b"x" * size)
    found = list(photos.batches(files))
    assert [[file.name for file in names] for names, _ in found] == [["0", "1", "2"], ["3"], ["4", "5"]]
    assert [len(data) for _, images in found for data in images] == [1, 1, 1, 50_000, 50_000, 1]


def test_an_error_names_the_file_and_not_its_place() -> None:
    files = [Path("a.png"), Path("b.png")]
    with pytest.raises(InvalidInput, match=r"^b\.png: broken") as caught, photos.named(files):
        raise InvalidInput("images[1]: broken", field="images[1]", allowed="PNG")
    assert (caught.value.field, caught.value.allowed) == ("IMAGE", "PNG")


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(NotFound, match=r"no-such\.png"):
        photos.read_image(Path("no-such.png"))
