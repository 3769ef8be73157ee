"""Edits in the forward pass of a mixed batch: of a layer's neurons, and of the features of a dictionary on it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from miclip.steering.edits import LayerEdits


class Codes(NamedTuple):
    """What a dictionary makes of activations ``[..., d]``.

    Attributes:
        values: Codes of the features, ``[..., F]``.
        scale: Undoes the normalisation of the input, ``[..., 1]``.
        shift: The same, ``[..., 1]``; ``x = scale·normalised + shift``.
    """

    values: Tensor
    scale: Tensor
    shift: Tensor


class Dictionary(Protocol):
    """A sparse autoencoder, as edits need it; see ``miclip.models.sae``."""

    def encode(self, x: Tensor) -> Codes:
        """Return the codes of activations ``[..., d]``."""
        ...

    def decode(self, codes: Codes) -> Tensor:
        """Return the reconstruction ``[..., d]``."""
        ...

    def directions(self, change: Tensor, scale: Tensor) -> Tensor:
        """Return what a change of the codes ``[..., F]`` adds to the activations ``[..., d]``."""
        ...


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
    gain, bias = _over_positions(edits, x.ndim, unit_axis)
    edited = torch.addcmul(bias.to(x.dtype), x.index_select(0, edits.rows), gain.to(x.dtype))
    # a copy, because the layer's output may also be read elsewhere (a residual, an Identity)
    return x.clone().index_copy_(0, edits.rows, edited)


def apply_feature_edits(x: Tensor, edits: LayerEdits, dictionary: Dictionary, unit_axis: int) -> tuple[Tensor, Tensor]:
    """Return ``x`` with the codes ``z`` of the edited rows changed to ``z̃ = gain·z + bias``, at every position.

    By default the error of the dictionary is preserved, ``x + W_dec (z̃ - z)``: what the dictionary cannot express
    stays as it was. Rows of ``edits.reconstruct`` become the reconstruction from ``z̃`` (the paper's variant). Only
    edited rows are encoded.

    Args:
        x: As for :func:`apply_edits`.
        edits: On the device of ``x``, for the ``F`` features.
        dictionary: Reads and writes the ``d`` units of ``x``.
        unit_axis: Axis of ``x`` that counts the units.

    Returns:
        ``x``, changed as above, and the codes ``z̃`` of the edited rows ``[R, ..., F]``.
    """
    rows = x.index_select(0, edits.rows).movedim(unit_axis, -1)
    codes = dictionary.encode(rows)
    gain, bias = _over_positions(edits, rows.ndim, rows.ndim - 1)
    edited = torch.addcmul(bias, codes.values, gain)
    changed = rows + dictionary.directions(edited - codes.values, codes.scale).to(rows.dtype)
    if edits.reconstruct.any():
        chosen = edits.reconstruct.view(-1, *[1] * (rows.ndim - 1))
        changed = torch.where(chosen, dictionary.decode(codes._replace(values=edited)).to(rows.dtype), changed)
    return x.clone().index_copy_(0, edits.rows, changed.movedim(-1, unit_axis)), edited


def _over_positions(edits: LayerEdits, dims: int, unit_axis: int) -> tuple[Tensor, Tensor]:
    shape = [1] * dims
    shape[0], shape[unit_axis] = edits.gain.shape
    return edits.gain.view(shape), edits.bias.view(shape)
