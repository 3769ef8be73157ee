"""Augmented views: RGBA drawings put on a ground, turned, scaled, shifted, flipped and recoloured, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

Uniform = Callable[..., Tensor]
"""``uniform(low, high, *shape)``: float32 ``[B, *shape]``, drawn for one batch."""


class Augment:
    """Random views of RGBA drawings.

    Args:
        size: Edge of the views in pixels.
        rotation: Largest turn in degrees, either way.
        scale: Range of the drawing's magnification.
        shift: Largest displacement as a fraction of half the edge.
        colour: Strength of brightness, contrast, saturation and hue changes, 0 to 1.
        erase: Probability of a grey rectangle over the view.
    """

    def __init__(
        self,
        size: int,
        *,
        rotation: float = 20.0,
        scale: tuple[float, float] = (0.75, 1.35),
        shift: float = 0.15,
        colour: float = 0.4,
        erase: float = 0.0,
    ) -> None:
        self.size, self.rotation, self.scale = size, rotation, scale
        self.shift, self.colour, self.erase = shift, colour, erase

    def __call__(self, rgba: Tensor, generator: torch.Generator) -> Tensor:
        """Return one view of each drawing.

        Args:
            rgba: uint8 ``[B, 4, S, S]``.
            generator: The only source of randomness.

        Returns:
            float32 ``[B, 3, size, size]`` in 0..1.
        """
        uniform = _uniform(len(rgba), generator)
        moved = self._moved(rgba, uniform)
        colour = self._recolour(moved[:, :3], moved[:, 3:], uniform)
        view = colour + (1 - moved[:, 3:]) * self._ground(uniform)
        if self.erase:
            view = self._erase(view, uniform)
        return view.clamp(0, 1)

    def masks(self, rgba: Tensor, generator: torch.Generator) -> Tensor:
        """Return how much of each pixel the drawing covers in the view that ``__call__`` gives from the same state.

        Args:
            rgba: uint8 ``[B, 4, S, S]``.
            generator: The only source of randomness.

        Returns:
            float32 ``[B, size, size]`` in 0..1.
        """
        return self._moved(rgba, _uniform(len(rgba), generator))[:, 3]

    def _moved(self, rgba: Tensor, uniform: Uniform) -> Tensor:
        """Drawings turned, scaled and shifted, ``[B, 4, size, size]``: drawn first, whatever comes behind."""
        pixels = rgba.float() / 255.0
        pixels[:, :3] *= pixels[:, 3:]  # premultiplied, so that resampling does not bleed the hidden colour
        grid = affine_grid(self._matrix(uniform), [len(rgba), 4, self.size, self.size], align_corners=False)
        return grid_sample(pixels, grid, align_corners=False)

    def _matrix(self, uniform: Uniform) -> Tensor:
        angle = uniform(-self.rotation, self.rotation) * math.pi / 180
        zoom = 1 / torch.exp(uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        stretch = torch.exp(uniform(-0.12, 0.12))
        mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        shift = uniform(-self.shift, self.shift, 2)
        top = torch.stack([cos * stretch * mirror, -sin, shift[:, 0]], dim=1)
        bottom = torch.stack([sin * stretch * mirror, cos, shift[:, 1]], dim=1)
        return torch.stack([top, bottom], dim=1)

    def _recolour(self, colour: Tensor, alpha: Tensor, uniform: Uniform) -> Tensor:
        if not self.colour:
            return colour
        strength = self.colour
        grey = colour.mean(dim=1, keepdim=True)
        colour = grey + (colour - grey) * uniform(1 - strength, 1 + strength, 1, 1, 1)
        middle = 0.5 * alpha
        colour = middle + (colour - middle) * uniform(1 - strength, 1 + strength, 1, 1, 1)
        tint = uniform(1 - strength, 1 + strength, 3, 1, 1)
        return colour * tint.lerp(uniform(1 - strength, 1 + strength, 1, 1, 1), 0.6)

    def _ground(self, uniform: Uniform) -> Tensor:
        """White, a plain colour, or a coarse pattern: drawings are seen on any ground, so it must carry no sign."""
        plain = uniform(0, 1, 3, 1, 1).expand(-1, -1, self.size, self.size)
        coarse = interpolate(uniform(0, 1, 3, 4, 4), size=self.size, mode="bilinear", align_corners=False)
        kind = uniform(0, 1, 1, 1, 1)
        return torch.where(kind < 0.3, torch.ones(()), torch.where(kind < 0.7, plain, coarse))

    def _erase(self, view: Tensor, uniform: Uniform) -> Tensor:
        edge = torch.arange(self.size) / self.size
        left, top = uniform(-0.1, 0.9, 1, 1, 1), uniform(-0.1, 0.9, 1, 1, 1)
        width, height = uniform(0.1, 0.4, 1, 1, 1), uniform(0.1, 0.4, 1, 1, 1)
        across = (edge.view(1, 1, 1, -1) >= left) & (edge.view(1, 1, 1, -1) < left + width)
        down = (edge.view(1, 1, -1, 1) >= top) & (edge.view(1, 1, -1, 1) < top + height)
        hidden = across & down & (uniform(0, 1, 1, 1, 1) < self.erase)
        return torch.where(hidden, torch.full((), 0.5), view)


def _uniform(count: int, generator: torch.Generator) -> Uniform:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    return uniform


def evaluation_views(size: int) -> Augment:
    """The moderate, fixed augmentation of probe sets and evaluation."""
    return Augment(size, rotation=12.0, scale=(0.85, 1.2), shift=0.1, colour=0.2)
