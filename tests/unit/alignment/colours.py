"""A model of five colours, a space of them and images, small enough to align in a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from miclip.models.preprocessing import Preprocessing
from miclip.models.target import TargetModel

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}
PALETTE = torch.tensor(list(COLOURS.values())).float()


def colour_square(row: int, edge: int = 8) -> Tensor:
    """A noisy square of colour ``row % 60 % 5``, uint8 ``[3, edge, edge]``."""
    noise = torch.rand(3, edge, edge, generator=torch.Generator().manual_seed(row))
    return (255 * (0.7 * PALETTE[row % 60 % 5][:, None, None] + 0.3 * noise)).to(torch.uint8)


class ColourProbe:
    """Noisy squares of five colours: 60 images, two views each."""

    name, views, licence, sha256 = "colours", 2, "none", "c" * 64
    names = tuple(f"{row % 60}#{row // 60}" for row in range(120))

    def load(self, start: int, stop: int) -> list[Tensor]:
        return [colour_square(row) for row in range(start, stop)]


class ColourClip:
    """A space in which a colour's name and its squares lie together: eight random directions of red, green and blue."""

    clip_id, dim = "colours", 8
    _directions = torch.randn(4, 8, generator=torch.Generator().manual_seed(5))

    def embed_texts(self, texts: list[str]) -> Any:
        return self._embed(torch.tensor([COLOURS[text] for text in texts]).float())

    def embed_images(self, images: list[Tensor]) -> Any:
        return self._embed(torch.stack([image.float().mean(dim=(1, 2)) / 255 for image in images]))

    def _embed(self, colours: Tensor) -> Any:
        with_bias = torch.cat([colours, torch.ones(len(colours), 1)], dim=1)
        return nn.functional.normalize(with_bias @ self._directions, dim=1).numpy()


def colour_model() -> TargetModel:
    """A network that tells the colours apart: each logit is 4 on the mean of its own squares and 0 on the others'."""
    network = nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        squares = torch.stack(ColourProbe().load(0, 60)).float() / 255
        hidden = network[:4]((squares - 0.5) / 0.5).view(12, 5, 12).mean(dim=0)
        centred = hidden - hidden.mean(dim=0)
        network[4].weight.copy_(torch.linalg.pinv(centred).T * 4)
        network[4].bias.copy_(-network[4].weight @ hidden.mean(dim=0))
    preprocessing = Preprocessing(8, resize="squash", interpolation="bilinear")
    return TargetModel("colours", network, labels=list(COLOURS), modules=["1"], preprocessing=preprocessing)
