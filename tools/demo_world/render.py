"""Drawings to pixels: Iconify SVG bodies rendered to RGBA at the demo's resolution."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from tools.demo_world.concepts import Concept

SIZE = 96
"""Edge of the stored images in pixels."""
WEBP_QUALITY = 80


class IconSet:
    """The drawings of one style.

    Args:
        package: The unpacked Iconify npm package of the style.
    """

    def __init__(self, package: Path) -> None:
        data = json.loads((package / "icons.json").read_text(encoding="utf-8"))
        self._icons = data["icons"]
        self._width, self._height = data.get("width", 16), data.get("height", 16)

    def render(self, icon: str) -> Image.Image:
        """Return the icon as an RGBA image of ``SIZE`` × ``SIZE``, centred, on a transparent ground."""
        import resvg_py

        entry = self._icons[icon]
        width, height = entry.get("width", self._width), entry.get("height", self._height)
        left, top = entry.get("left", 0), entry.get("top", 0)
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{entry["body"]}</svg>'
        )
        wide = width >= height
        drawn_svg = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE if wide else None, height=None if wide else SIZE)
        drawn = Image.open(io.BytesIO(bytes(drawn_svg))).convert("RGBA")
        canvas = Image.new("RGBA", (SIZE, SIZE))
        canvas.paste(drawn, ((SIZE - drawn.width) // 2, (SIZE - drawn.height) // 2))
        return canvas


def render_style(packages: Path, style: str, concepts: Iterable[Concept]) -> tuple[list[int], np.ndarray]:
    """Render every concept that ``style`` draws.

    Returns:
        Positions in ``concepts`` that were drawn, and their pixels, uint8 ``[N, SIZE, SIZE, 4]``.
    """
    icons = IconSet(packages / style)
    drawn = [(i, icons.render(c.icons[style])) for i, c in enumerate(concepts) if style in c.icons]
    return [i for i, _ in drawn], np.stack([np.asarray(image) for _, image in drawn])


def encode_webp(pixels: np.ndarray) -> bytes:
    """Return RGBA pixels, uint8 ``[H, W, 4]``, as lossy WebP with its alpha channel."""
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "WEBP", quality=WEBP_QUALITY, method=6)
    return buffer.getvalue()
