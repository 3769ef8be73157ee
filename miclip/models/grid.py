"""Where on the image a layer's outputs are: feature maps as they are, patch tokens back in their square."""

from __future__ import annotations

import math

from torch import Tensor

from miclip.errors import InvalidInput


def to_grid(x: Tensor, layer: str, *, prefix_tokens: int, channels_last: bool) -> Tensor:
    """Return a layer's output by position.

    Args:
        x: ``[B,d,H,W]`` (``[B,H,W,d]`` if ``channels_last``), or tokens ``[B,T,d]``.
        layer: Its name, for messages.
        prefix_tokens: Leading tokens that are no patches.
        channels_last: How feature maps are laid out.

    Returns:
        ``[B,d,H,W]``.

    Raises:
        InvalidInput: the output is one vector an image, or its tokens are not those of a square of patches.
    """
    if x.ndim == 4:
        return x.permute(0, 3, 1, 2) if channels_last else x
    if x.ndim != 3:
        raise _without_positions(layer, "one vector an image")
    patches = x[:, prefix_tokens:]
    edge = math.isqrt(patches.shape[1])
    if edge == 0 or edge * edge != patches.shape[1]:
        raise _without_positions(layer, f"{patches.shape[1]} tokens, no square of patches")
    return patches.transpose(1, 2).reshape(x.shape[0], x.shape[2], edge, edge)


def _without_positions(layer: str, output: str) -> InvalidInput:
    return InvalidInput(
        f"Layer {layer!r} has no positions on the image: its output is {output}. Choose an earlier layer.",
        field="layer", allowed="layers of feature maps or patch tokens",
    )  # fmt: skip
