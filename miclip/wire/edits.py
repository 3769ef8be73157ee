"""Edits as messages, and back."""

from __future__ import annotations

from collections.abc import Iterable

from miclip.errors import BadArtefact, InvalidInput
from miclip.names import LayerName, parse_layer
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import RequestedEdit
from miclip.v1 import resources_pb2 as pb


def write_edit(edit: Edit, model: str) -> pb.Edit:
    """An edit as a message.

    Args:
        edit: Its layer is a plain name, or a full one, ``models/{model}/layers/{layer}``.
        model: Id of the model.

    Raises:
        InvalidInput: the message cannot hold a value, such as a negative unit.
    """
    try:
        message = pb.Edit(layer=full_layer(edit.layer, model), unit=edit.unit, reconstruct=edit.reconstruct)
        setattr(message, Op(edit.op).value, edit.value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"Edit: {error}") from error
    message.relative_to_max = isinstance(edit, RequestedEdit) and edit.relative_to_max
    return message


def write_edits(edits: Iterable[Edit], model: str) -> list[pb.Edit]:
    """Edits as messages, in order; see :func:`write_edit`."""
    return [write_edit(edit, model) for edit in edits]


def read_edit(message: pb.Edit) -> Edit:
    """An edit of a message that a server sent; raises BadArtefact for one that this program is too old for."""
    kind = message.WhichOneof("op")
    if kind is None:
        raise BadArtefact("A policy makes an edit that this version of miclip does not know; upgrade it.")
    layer, value = parse_layer(message.layer).layer, getattr(message, kind)
    if message.relative_to_max:
        return RequestedEdit(layer, message.unit, Op(kind), value, message.reconstruct, relative_to_max=True)
    return Edit(layer, message.unit, Op(kind), value, message.reconstruct)


def read_edits(messages: Iterable[pb.Edit]) -> tuple[Edit, ...]:
    """Edits of messages that a server sent, in order; see :func:`read_edit`."""
    return tuple(map(read_edit, messages))


def full_layer(layer: str, model: str) -> str:
    """The full name of a layer, which may be full already."""
    return layer if layer.startswith("models/") else str(LayerName(model, layer))
