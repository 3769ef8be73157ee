"""Edits in the forward pass of a mixed batch."""

from __future__ import annotations

import torch
from torch import Tensor

from miclip.steering.edits import LayerEdits


def apply_edits(x: Tensor, edits: LayerEdits, unit_axis: int) -> Tensor:
    """Return ``x`` with ``gain·x + bias`` on the edited rows, at every token or position.

    Args:
        x: Output of a layer, batch first: ``[B,d,H,W]``, ``[B,H,W,d]``, ``[B,T,d]`` or ``[B,d]``. Not changed.
        edits: On the device of ``x``, for its ``d`` units.
        unit_axis: Axis of ``x`` that counts the units.

    Returns:
        Shape, dtype and memory layout of ``x``. Rows without edits are the same bits; with no rows, ``x`` itself.
    """
    if edits.rows.numel() == 0:
        return x
    shape = [1] * x.ndim
    shape[0], shape[unit_axis] = edits.gain.shape
    gain, bias = edits.gain.to(x.dtype).view(shape), edits.bias.to(x.dtype).view(shape)
    edited = torch.addcmul(bias, x.index_select(0, edits.rows), gain)
    # a copy, because the layer's output may also be read elsewhere (a residual, an Identity)
    return x.clone().index_copy_(0, edits.rows, edited)
