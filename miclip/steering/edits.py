"""Edits of single units, and their compilation to the tensors of one batch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from miclip.errors import InvalidInput, NotFound, TooLarge
from miclip.names import is_dictionary_layer
from miclip.settings import settings

if TYPE_CHECKING:  # edits as values, as policies hold them, must not cost the import of torch
    import torch
    from torch import Tensor


class Op(StrEnum):
    """What an edit does to an activation ``a`` with its value ``β``."""

    SCALE = "scale"
    """``ã = β·a``"""
    ADD = "add"
    """``ã = a + β``"""
    CLAMP = "clamp"
    """``ã = β``"""


@dataclass(frozen=True)
class Edit:
    """One operation on one unit, at every token or spatial position of its layer.

    Attributes:
        layer: Name of a layer of the target model.
        unit: Index of the unit, from 0.
        op: The operation.
        value: ``β``: a factor for ``SCALE``, in units of the activation for ``ADD`` and ``CLAMP``.
        reconstruct: Only for a feature of a dictionary: replace the activation by the reconstruction from the edited
            codes (the paper's variant), instead of preserving the dictionary's error. One such edit does it for all
            edits of its layer.
    """

    layer: str
    unit: int
    op: Op
    value: float
    reconstruct: bool = False


@dataclass(frozen=True)
class UnitEdits:
    """What the edits of one sample do to one layer: ``ã = gain·a + bias`` of some units.

    Attributes:
        units: int64 ``[n]``, the edited units, each once.
        gain: ``[n]``.
        bias: ``[n]``.
        reconstruct: Whether the activation becomes the dictionary's reconstruction; for features only.
    """

    units: Tensor
    gain: Tensor
    bias: Tensor
    reconstruct: bool


@dataclass(frozen=True)
class CompiledEdits:
    """The edits of one sample, compiled once for any number of batches.

    Attributes:
        layers: By layer name; a layer on which nothing changes is absent.
    """

    layers: Mapping[str, UnitEdits] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether any edit changes something."""
        return bool(self.layers)


NO_EDITS = CompiledEdits()
"""What no edits compile to."""


@dataclass
class LayerEdits:
    """The edits of one layer in one batch: ``ã = gain·a + bias`` on the given rows, nothing on the others.

    Attributes:
        rows: int64 ``[R]``, the batch rows that have edits, ascending.
        gain: ``[R, d]``.
        bias: ``[R, d]``.
        reconstruct: bool ``[R]``: rows whose activation becomes the dictionary's reconstruction; for features only.
    """

    rows: Tensor
    gain: Tensor
    bias: Tensor
    reconstruct: Tensor

    def to(self, device: torch.device | str) -> LayerEdits:
        """Return the same edits on ``device``."""
        return LayerEdits(*(getattr(self, part.name).to(device) for part in fields(self)))


@dataclass
class EditBatch:
    """The edits of one batch, by layer; a layer that nobody edits is absent.

    Attributes:
        layers: Edits by layer name.
    """

    layers: dict[str, LayerEdits] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether any row has an edit that changes something."""
        return bool(self.layers)

    def to(self, device: torch.device | str) -> EditBatch:
        """Return the same edits on ``device``."""
        return EditBatch({name: edits.to(device) for name, edits in self.layers.items()})


def validate_edits(edits: Sequence[Edit], layer_sizes: Mapping[str, int], *, field: str = "edits") -> None:
    """Check every edit against the model's layers and the limits of ``settings()``.

    Args:
        edits: Edits of one sample or policy.
        layer_sizes: Units by layer name.
        field: Path of the list in the request; errors name ``{field}[i].unit`` and so on.

    Raises:
        TooLarge: there are more than ``max_edits``.
        NotFound: a layer does not exist; the text lists those that do.
        InvalidInput: a unit or value is out of range, or what the edits of a unit do together is; ``allowed`` holds
            the range.
    """
    limit = settings().max_edits
    if len(edits) > limit:
        raise TooLarge(
            f"{field}: {len(edits)} edits; at most {limit} are allowed.", field=field, allowed=f"0 to {limit}"
        )
    for index, edit in enumerate(edits):
        _validate(edit, layer_sizes, f"{field}[{index}]")
    _validate_together(edits, field)


def _validate_together(edits: Sequence[Edit], field: str) -> None:
    """Check what the edits of each unit amount to: a factor of 100 made ten times is no float any more."""
    most_gain, most_bias = settings().max_strength, settings().max_offset
    units: dict[tuple[str, int], tuple[float, float]] = {}
    for index, edit in enumerate(edits):
        gain, bias = units[edit.layer, edit.unit] = _then(edit, units.get((edit.layer, edit.unit), _IDENTITY))
        if abs(gain) <= most_gain and abs(bias) <= most_bias:
            continue
        allowed = f"a factor of -{most_gain:g} to {most_gain:g} and an addition of -{most_bias:g} to {most_bias:g}"
        text = (
            f"{field}[{index}].value: together, the edits of unit {edit.unit} of {edit.layer!r} multiply it by "
            f"{gain:g} and add {bias:g}; allowed is {allowed}."
        )
        raise InvalidInput(text, field=f"{field}[{index}].value", allowed=allowed)


def _validate(edit: Edit, layer_sizes: Mapping[str, int], path: str) -> None:
    units = layer_sizes.get(edit.layer)
    if units is None:
        names = ", ".join(layer_sizes)
        shown = edit.layer if len(edit.layer) <= 80 else edit.layer[:77] + "..."
        raise NotFound(
            f"{path}.layer: no layer {shown!r}; the layers are {names}.", field=f"{path}.layer", allowed=names
        )
    if not 0 <= edit.unit < units:
        allowed = f"0 to {units - 1}"
        text = f"{path}.unit: {edit.unit} is not a unit of {edit.layer!r}; units are {allowed}."
        raise InvalidInput(text, field=f"{path}.unit", allowed=allowed)
    bound = settings().max_strength if edit.op is Op.SCALE else settings().max_offset
    if not (math.isfinite(edit.value) and abs(edit.value) <= bound):
        allowed = f"-{bound:g} to {bound:g}"
        text = f"{path}.value: {edit.value:g} is out of range for {edit.op.value}; allowed is {allowed}."
        raise InvalidInput(text, field=f"{path}.value", allowed=allowed)
    if edit.reconstruct and not is_dictionary_layer(edit.layer):
        text = f"{path}.reconstruct: {edit.layer!r} has neurons; only features of a dictionary are reconstructed from."
        raise InvalidInput(text, field=f"{path}.reconstruct", allowed="false")


def compile_edits(
    per_sample: Sequence[Sequence[Edit]],
    layer_sizes: Mapping[str, int],
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> EditBatch:
    """Compile the edits of each sample of a batch to gain and bias rows.

    Edits on one unit act in order. What comes out as the identity (scale 1, add 0) is dropped, so that it leaves the
    batch untouched to the last bit; a reconstruction is never the identity.

    Args:
        per_sample: One list of valid edits per batch row; may be empty lists.
        layer_sizes: Units by layer name.
        device: Where the tensors go; CPU by default.
        dtype: Of gain and bias; float32 by default.

    Returns:
        Only layers and rows that have an effect.
    """
    compiled: dict[int, CompiledEdits] = {}  # samples under one policy often share the list
    for edits in per_sample:
        if id(edits) not in compiled:
            compiled[id(edits)] = compile_sample(edits, device, dtype)
    return assemble([compiled[id(edits)] for edits in per_sample], layer_sizes)


def compile_sample(
    edits: Sequence[Edit], device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> CompiledEdits:
    """Compile the edits of one sample, for any number of batches; arguments as for :func:`compile_edits`."""
    layers: dict[str, dict[int, _Affine]] = {edit.layer: {} for edit in edits if edit.reconstruct}
    reconstructed = set(layers)
    for (layer, unit), affine in combined(edits).items():
        if affine != _IDENTITY:
            layers.setdefault(layer, {})[unit] = affine
    return CompiledEdits(
        {layer: _unit_edits(units, layer in reconstructed, device, dtype) for layer, units in sorted(layers.items())}
    )


def assemble(per_sample: Sequence[CompiledEdits], layer_sizes: Mapping[str, int]) -> EditBatch:
    """Put the compiled edits of the samples of a batch together.

    Args:
        per_sample: Compiled edits of each batch row; may be empty.
        layer_sizes: Units by layer name.

    Returns:
        Only layers and rows that have an effect.
    """
    rows: dict[str, dict[int, UnitEdits]] = {}
    for row, compiled in enumerate(per_sample):
        for layer, units in compiled.layers.items():
            rows.setdefault(layer, {})[row] = units
    return EditBatch({layer: _layer_edits(of_layer, layer_sizes[layer]) for layer, of_layer in sorted(rows.items())})


_Affine = tuple[float, float]
"""Gain and bias."""
_IDENTITY: _Affine = (1.0, 0.0)


def combined(edits: Sequence[Edit]) -> dict[tuple[str, int], _Affine]:
    """Return gain and bias of what all edits of a unit do together, by layer and unit."""
    units: dict[tuple[str, int], _Affine] = {}
    for edit in edits:
        units[edit.layer, edit.unit] = _then(edit, units.get((edit.layer, edit.unit), _IDENTITY))
    return units


def _then(edit: Edit, before: _Affine) -> _Affine:
    """What a unit's edits so far and one more do together."""
    gain, bias = before
    match edit.op:
        case Op.SCALE:
            return gain * edit.value, bias * edit.value
        case Op.ADD:
            return gain, bias + edit.value
        case Op.CLAMP:
            return 0.0, edit.value


def _unit_edits(
    units: Mapping[int, _Affine], reconstruct: bool, device: torch.device | str | None, dtype: torch.dtype | None
) -> UnitEdits:
    import torch

    affine = torch.tensor([*units.values()], dtype=dtype or torch.float32, device=device).view(-1, 2)
    index = torch.tensor([*units], dtype=torch.int64, device=device)
    return UnitEdits(index, affine[:, 0].contiguous(), affine[:, 1].contiguous(), reconstruct)


def _layer_edits(rows: Mapping[int, UnitEdits], units: int) -> LayerEdits:
    import torch

    distinct = {id(edits): edits for edits in rows.values()}  # rows under one policy share what it was compiled to
    first = next(iter(rows.values())).gain
    gain, bias = first.new_ones(len(distinct), units), first.new_zeros(len(distinct), units)
    for place, edits in enumerate(distinct.values()):
        gain[place, edits.units], bias[place, edits.units] = edits.gain, edits.bias
    if len(distinct) < len(rows):
        places = {key: place for place, key in enumerate(distinct)}
        index = torch.tensor([places[id(edits)] for edits in rows.values()], device=first.device)
        gain, bias = gain[index], bias[index]
    reconstruct = torch.tensor([edits.reconstruct for edits in rows.values()], device=first.device)
    return LayerEdits(torch.tensor([*rows], device=first.device), gain, bias, reconstruct)


def fingerprint(edits: Sequence[Edit]) -> str:
    """Return the SHA-256 (hex) of the edits' canonical form; ``""`` for no edits.

    The order of edits on different units does not matter; the order on one unit does.
    """
    if not edits:
        return ""
    ordered = sorted(edits, key=lambda edit: (edit.layer, edit.unit))
    # adding 0.0 turns -0.0 into 0.0 and integers into floats
    plain = [
        [edit.layer, edit.unit, edit.op.value, edit.value + 0.0, *(["reconstruct"] if edit.reconstruct else [])]
        for edit in ordered
    ]
    return hashlib.sha256(json.dumps(plain, separators=(",", ":")).encode()).hexdigest()
