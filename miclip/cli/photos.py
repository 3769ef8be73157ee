"""Image files of a command: found in folders, read, and shrunk where a server would refuse them for their size."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miclip.cli import output
from miclip.errors import InvalidInput, NotFound
from miclip.settings import settings

if TYPE_CHECKING:  # Pillow comes with miclip[local]; without it images are sent as they are
    from PIL import Image as Pillow

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
STDIN = Path("-")
_EDGE = 2048  # pixels: far above what a model takes in
_MOST_PIXELS = 250_000_000  # decoded here at most
_SHARE = 0.9  # of the largest message, left for images

Image = Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, GIF or BMP file; `-` is standard input.")]


def read_image(path: Path) -> bytes:
    """Return a file's bytes; an image above the limits of ``settings()`` is shrunk, with a note.

    Raises:
        NotFound: the file cannot be read.
    """
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise NotFound(f"IMAGE: cannot read {path}: {error.strerror}.", field="IMAGE") from error
    return shrink(data, str(path))


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files of arguments in order; a folder stands for the images in it and below, by name.

    Raises:
        InvalidInput: a folder has no images.
    """
    files: list[Path] = []
    for path in paths:
        inside = (
            sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            text = f"IMAGE: the folder {path} has no images. Name a folder with {', '.join(sorted(SUFFIXES))} files."
            raise InvalidInput(text, field="IMAGE", allowed="a folder with images")
        files += inside
    return files


def batches(files: Sequence[Path]) -> Iterator[tuple[list[Path], list[bytes]]]:
    """Read files, as many at a time as one request takes: at most ``max_images``, and below the largest message."""
    names: list[Path] = []
    images: list[bytes] = []
    room = _SHARE * settings().max_message_bytes
    for file in files:
        data = read_image(file)
        if images and (len(images) >= settings().max_images or sum(map(len, images)) + len(data) > room):
            yield names, images
            names, images = [], []
        names.append(file)
        images.append(data)
    if images:
        yield names, images


@contextmanager
def named(files: Sequence[Path]) -> Iterator[None]:
    """Name the file in an error about the i-th image of a request."""
    try:
        yield
    except InvalidInput as error:
        for place, file in enumerate(files):
            if error.field == f"images[{place}]":
                text = error.message.replace(error.field, str(file), 1)
                raise InvalidInput(text, field="IMAGE", allowed=error.allowed) from error
        raise


def shrink(data: bytes, name: str) -> bytes:
    """Return an encoded image that is within the limits of ``settings()``: the same, or a smaller JPEG, upright.

    What cannot be decoded here is returned as it is: the model's side says what is wrong with it.

    Args:
        data: The encoded image.
        name: For the note.
    """
    try:
        from PIL import Image as Pillow
    except ModuleNotFoundError:
        return data
    try:
        with _large_images(), Pillow.open(io.BytesIO(data)) as image:
            width, height = image.size
            if _fits(width, height, len(data)) or width * height > _MOST_PIXELS:
                return data
            small = _small(image)
    except Exception:  # Pillow raises anything on broken bytes
        return data
    output.note(f"{name}: {width}×{height} pixels, {len(data) / 1e6:.1f} MB; shrunk to {small.width}×{small.height}.")
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _fits(width: int, height: int, size: int) -> bool:
    limits = settings()
    small = width * height <= limits.max_image_pixels and max(width, height) <= limits.max_image_edge
    return small and size <= limits.max_image_bytes


def _small(image: Pillow.Image) -> Pillow.Image:
    """Decode at about the size that is wanted; transparency is laid over white, as the model's side does."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    image.draft("RGB", (_EDGE, _EDGE))
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        plain = image.convert("I").point(lambda value: value / 257).convert("L")
    else:
        plain = image.convert("RGBA" if image.has_transparency_data else "RGB")
    plain.thumbnail((_EDGE, _EDGE))
    upright: Pillow.Image = ImageOps.exif_transpose(plain)
    if upright.mode == "RGBA":
        upright = Pillow.alpha_composite(Pillow.new("RGBA", upright.size, "white"), upright)
    return upright.convert("RGB")


@contextmanager
def _large_images() -> Iterator[None]:
    """Let Pillow open what its guard against hostile files refuses: the files are the user's own."""
    from PIL import Image as Pillow

    before = Pillow.MAX_IMAGE_PIXELS
    Pillow.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Pillow.MAX_IMAGE_PIXELS = before
