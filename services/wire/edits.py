"""Edits of a request, read and validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from miclip.errors import InvalidInput, TooLarge
from miclip.settings import settings
from miclip.steering.edits import Edit, Op, validate_edits
from miclip.steering.resolution import absolute
from miclip.v1 import resources_pb2 as pb
from services.wire.layers import layer_of


def to_edits(
    messages: Sequence[pb.Edit],
    model: str,
    layer_sizes: Mapping[str, int],
    maximum: Callable[[str, int], float],
    *,
    field: str,
) -> tuple[Edit, ...]:
    """Read and validate edits.

    Args:
        messages: The edits of one request or policy.
        model: Id of the model that they must belong to.
        layer_sizes: Units by layer name.
        maximum: A unit's maximum over the probe images; asked only for edits relative to it.
        field: Path of the list, for messages.

    Raises:
        MiclipError: an edit is out of range, or its model, layer or unit does not exist; the field is named.
    """
    limit = settings().max_edits
    if len(messages) > limit:
        allowed = f"0 to {limit}"
        raise TooLarge(f"{field} has {len(messages)} entries; allowed is {allowed}.", field=field, allowed=allowed)
    edits = [_edit(message, model, layer_sizes, f"{field}[{i}]") for i, message in enumerate(messages)]
    for i, (edit, message) in enumerate(zip(edits, messages, strict=True)):
        _validate([edit], [message], layer_sizes, field, first=i)  # alone: what is relative has no unit yet
    edits = [
        absolute(edit, maximum(edit.layer, edit.unit), f"{field}[{i}]") if message.relative_to_max else edit
        for i, (edit, message) in enumerate(zip(edits, messages, strict=True))
    ]
    _validate(edits, messages, layer_sizes, field)
    _check_repeats(edits, field)
    return tuple(edits)


def _check_repeats(edits: Sequence[Edit], field: str) -> None:
    """Refuse the same operation on a unit twice: twice ×2 could mean ×2 or ×4."""
    first: dict[tuple[str, int, Op], int] = {}
    for place, edit in enumerate(edits):
        before = first.setdefault((edit.layer, edit.unit, edit.op), place)
        if before != place:
            path = f"{field}[{place}].{edit.op}"
            text = (
                f"{path}: {field}[{before}] sets {edit.op} of unit {edit.unit} of {edit.layer!r} already. "
                "Keep one of the two, or send their product or sum."
            )
            raise InvalidInput(text, field=path, allowed="each operation once a unit")


def _validate(
    edits: Sequence[Edit], messages: Sequence[pb.Edit], layer_sizes: Mapping[str, int], field: str, *, first: int = 0
) -> None:
    """Validate edits of which the first is entry ``first`` of the list at ``field``."""
    try:
        validate_edits(edits, layer_sizes, field=field)
    except InvalidInput as error:  # it speaks of edits[0].value, clients know scale, add and clamp
        place = int(error.field[len(field) + 1 :].partition("]")[0])
        part = error.field.rpartition(".")[2]
        named = f"{field}[{first + place}].{messages[place].WhichOneof('op') if part == 'value' else part}"
        text = error.message.replace(error.field, named)
        raise InvalidInput(text, field=named, allowed=error.allowed) from None


def _edit(message: pb.Edit, model: str, layer_sizes: Mapping[str, int], field: str) -> Edit:
    layer = layer_of(message.layer, model, layer_sizes, field=f"{field}.layer")
    kind = message.WhichOneof("op")
    if kind is None:
        raise InvalidInput(
            f"{field} has no operation; set scale, add or clamp.", field=field, allowed="one of scale, add, clamp"
        )
    op, value = Op(kind), getattr(message, kind)
    if message.relative_to_max:
        if op is Op.SCALE:
            text = f"{field}.relative_to_max goes with add and clamp, not with scale."
            raise InvalidInput(text, field=f"{field}.relative_to_max", allowed="false with scale")
        bound = settings().max_strength
        if not abs(value) <= bound:  # also refuses NaN
            allowed = f"-{bound:g} to {bound:g} times the unit's maximum"
            text = f"{field}.{kind} is {value:g}; allowed is {allowed}."
            raise InvalidInput(text, field=f"{field}.{kind}", allowed=allowed)
    return Edit(layer, message.unit, op, value, message.reconstruct)
