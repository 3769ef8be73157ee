"""miclip's own small models: a ResNet and a ViT with a convolutional stem, built from timm's blocks.

A model card names one as ``miclip/resnet`` or ``miclip/vit`` and holds its parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from miclip.models import _torchvision  # noqa: F401

# isort: split
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

_STRIDE = 8


class ConvStem(nn.Module):
    """Three stride-2 convolutions in place of a patch embedding (Xiao et al. 2021), ``[B,3,S,S] → [B,(S/8)²,dim]``.

    The keyword arguments beyond those used are what timm passes to any ``embed_layer``.
    """

    def __init__(self, embed_dim: int, img_size: int, width: int = 96, **_: object) -> None:
        super().__init__()
        channels = (3, width // 4, width // 2, width)
        steps: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            steps += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.stages = nn.Sequential(*steps)
        self.proj = nn.Conv2d(width, embed_dim, 1)
        self.grid_size = (img_size // _STRIDE, img_size // _STRIDE)
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens ``[B, T, dim]`` of images ``[B, 3, S, S]``."""
        return self.proj(self.stages(images)).flatten(2).transpose(1, 2)


def small_resnet(
    outputs: int,
    *,
    blocks: tuple[int, int, int, int] = (1, 1, 1, 1),
    channels: tuple[int, int, int, int] = (32, 64, 128, 256),
    stem_width: int = 16,
) -> ResNet:
    """A ResNet of basic blocks behind a deep stem.

    Args:
        outputs: Number of its outputs.
        blocks: Blocks of each stage.
        channels: Channels of each stage.
        stem_width: Channels of the first convolution.
    """
    return ResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm annotates an instance where it takes the class
        tuple(blocks),
        num_classes=outputs,
        channels=tuple(channels),
        stem_type="deep",
        stem_width=stem_width,
    )


def small_vit(
    outputs: int, *, size: int = 64, width: int = 128, depth: int = 4, heads: int = 4, mlp_ratio: float = 3.0
) -> VisionTransformer:
    """A mean-pooled ViT behind a convolutional stem.

    Args:
        outputs: Number of its outputs.
        size: Edge of its input in pixels, a multiple of 8.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Attention heads of a block.
        mlp_ratio: Hidden channels of a block's MLP, in multiples of ``width``.
    """
    return VisionTransformer(
        img_size=size,
        patch_size=_STRIDE,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        num_classes=outputs,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
        embed_layer=ConvStem,
    )


SMALL: Final[dict[str, Callable[..., nn.Module]]] = {"resnet": small_resnet, "vit": small_vit}
"""Builders by name: ``builder(outputs, **parameters)``."""
