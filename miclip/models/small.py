"""The demo's target models: a small ResNet and a small ViT with a convolutional stem, built from timm's blocks."""

from __future__ import annotations

from itertools import pairwise

from miclip.models import _torchvision  # noqa: F401

# isort: split
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

IMAGE_SIZE = 64
"""Edge of the target models' input in pixels."""


class ConvStem(nn.Module):
    """Three stride-2 convolutions in place of a patch embedding (Xiao et al. 2021), ``[B,3,64,64] → [B,64,dim]``.

    The keyword arguments beyond those used are what timm passes to any ``embed_layer``.
    """

    def __init__(self, embed_dim: int, img_size: int = IMAGE_SIZE, width: int = 96, **_: object) -> None:
        super().__init__()
        channels = (3, width // 4, width // 2, width)
        steps: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            steps += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.stages = nn.Sequential(*steps)
        self.proj = nn.Conv2d(width, embed_dim, 1)
        self.grid_size = (img_size // 8, img_size // 8)
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens ``[B, 64, dim]`` of images ``[B, 3, 64, 64]``."""
        return self.proj(self.stages(images)).flatten(2).transpose(1, 2)


def emoji_resnet(num_classes: int) -> ResNet:
    """A ResNet with one basic block per stage, 32-64-128-256 channels."""
    return ResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm annotates an instance where it takes the class
        (1, 1, 1, 1),
        num_classes=num_classes,
        channels=(32, 64, 128, 256),
        stem_type="deep",
        stem_width=16,
    )


def emoji_vit(num_classes: int) -> VisionTransformer:
    """A ViT of 4 blocks, width 128, 64 tokens behind a convolutional stem, mean-pooled."""
    return VisionTransformer(
        img_size=IMAGE_SIZE, patch_size=8, embed_dim=128, depth=4, num_heads=4, mlp_ratio=3.0, num_classes=num_classes,
        class_token=False, global_pool="avg", fc_norm=False, embed_layer=ConvStem,
    )  # fmt: skip


ARCHITECTURES = {"emoji_resnet": emoji_resnet, "emoji_vit": emoji_vit}
