"""From a decoded image to a model's input, without PIL: resize, crop, normalise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

_WIDEST = 8
"""Aspect ratio beyond which the ends of an image are cut before resizing: the centre crop drops them anyway, and
resizing a 16384×1 image by its short edge would take gigabytes."""


@dataclass(frozen=True)
class Preprocessing:
    """How images become inputs, as in the evaluation transforms of timm, torchvision and open_clip.

    Attributes:
        size: Edge of the square input in pixels.
        resize: ``"shortest"`` (short edge to ``resize_size``, centre crop), ``"longest"`` (long edge to
            ``resize_size``, padded with ``fill``) or ``"squash"`` (both edges to ``resize_size``, centre crop).
        resize_size: Edge before the crop in pixels; 0 means ``size``.
        interpolation: ``"bilinear"`` or ``"bicubic"``, both antialiased, or ``"nearest-exact"``.
        mean: Per channel, on the scale 0 to 1.
        std: Per channel, on the scale 0 to 1.
        fill: Padding value, 0 to 255.
        bgr: The model's channels are blue, green, red; ``mean`` and ``std`` are in that order.
    """

    size: int
    resize: str = "shortest"
    resize_size: int = 0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    fill: int = 0
    bgr: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Return the input of one image.

        Args:
            image: uint8 ``[3, H, W]``, RGB.

        Returns:
            float32 ``[3, size, size]``, on the CPU.
        """
        if self.resize == "shortest":
            image = _trim(image)
        height, width = self._resized(*image.shape[-2:])
        if (height, width) != tuple(image.shape[-2:]):
            # on uint8 the kernel rounds as Pillow does
            smooth = self.interpolation != "nearest-exact"
            image = interpolate(image[None], (height, width), mode=self.interpolation, antialias=smooth)[0]
        image = self._fit(image.flip(0) if self.bgr else image).float().div_(255)
        return image.sub_(torch.tensor(self.mean).view(3, 1, 1)).div_(torch.tensor(self.std).view(3, 1, 1))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        edge = self.resize_size or self.size
        if self.resize == "squash":
            return edge, edge
        if self.resize == "shortest":  # rounding as in torchvision
            short = min(height, width)
            return max(1, int(edge * height / short)), max(1, int(edge * width / short))
        long = max(height, width)  # rounding as in open_clip and timm
        return max(1, round(edge * height / long)), max(1, round(edge * width / long))

    def _fit(self, image: Tensor) -> Tensor:
        """Crop or pad to the input's square, about the centre."""
        height, width = image.shape[-2:]
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        image = image[:, max(0, top) : max(0, top) + self.size, max(0, left) : max(0, left) + self.size]
        missing_height, missing_width = self.size - image.shape[-2], self.size - image.shape[-1]
        if missing_height or missing_width:
            above, before = missing_height // 2, missing_width // 2
            sides = (before, missing_width - before, above, missing_height - above)
            image = pad(image, sides, value=self.fill)
        return image

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values; ``bgr`` only where it is set, so that hashes of older ones stay."""
        return {name: value for name, value in asdict(self).items() if name != "bgr" or value}


def _trim(image: Tensor) -> Tensor:
    longest = _WIDEST * min(image.shape[-2:])
    for axis in (-2, -1):
        excess = image.shape[axis] - longest
        if excess > 0:
            image = image.narrow(axis, excess // 2, longest)
    return image
