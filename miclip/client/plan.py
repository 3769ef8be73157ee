"""What a client method does, apart from how it waits: shared by the blocking and the asyncio client.

A method is written once, as a *plan*: a generator that yields the calls it needs, gets each response sent in, and
returns the result. The two clients differ only in how they make a call.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

from miclip.errors import InvalidInput
from miclip.names import UnitName
from miclip.settings import settings
from miclip.wire.common import short_names

T = TypeVar("T")
M = TypeVar("M", bound=Message)

Image: TypeAlias = bytes | str | os.PathLike[str]
"""An encoded image, or the path of one."""


@dataclass(frozen=True)
class Rpc:
    """One call."""

    application: str
    """``activation``, ``aligner``, ``retrieval`` or ``steering``."""
    method: str
    """Name of the RPC, unique within the application."""
    request: Message
    idempotent: bool = True
    """Whether doing it twice is the same as once, so that it may be made again when its outcome is unknown."""


Plan: TypeAlias = Generator[Rpc, Any, T]
"""Yields calls, receives their responses, returns ``T``. A failed call is thrown in as a MiclipError."""


def build(kind: type[M], **fields: Any) -> M:
    """Make a message; raises InvalidInput for what it cannot hold, such as a negative count."""
    try:
        return kind(**{name: value for name, value in fields.items() if value is not None})
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{kind.DESCRIPTOR.name}: {error}") from error


def qualified(collection: str, value: str) -> str:
    """``collection/value``, or ``value`` where it is already a full name; empty stays empty."""
    return value if not value or value.startswith(f"{collection}/") else f"{collection}/{value}"


def layer_name(model: str, layer: str) -> str:
    """``models/{model}/layers/{layer}``, or ``layer`` where it is already a full name.

    The plain name of a dictionary's layer of features is ``{layer}/dictionaries/{dictionary}``.
    """
    return layer if layer.startswith("models/") else f"{qualified('models', model)}/layers/{layer}"


def enum_value(enum: EnumTypeWrapper, text: str | None, field: str) -> int:
    """The value of an enum for its short name in lower case (``"attribution"``); None is the default, 0."""
    if text is None:
        return 0
    names = short_names(enum)
    if text not in names[1:]:
        allowed = ", ".join(names[1:])
        raise InvalidInput(f"{field}: {text!r} is not one of {allowed}.", field=field, allowed=allowed)
    return names.index(text)


def read_images(images: Iterable[Image]) -> list[bytes]:
    """The encoded bytes of every image; raises InvalidInput for a file that cannot be read."""
    if isinstance(images, bytes | str | os.PathLike):
        images = [images]
    return [_read_image(image, f"images[{i}]") for i, image in enumerate(images)]


def _read_image(image: Image, field: str) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{field}: cannot read {os.fspath(image)!r}: {error.strerror}.", field=field) from error


def as_list(values: Iterable[str] | str) -> list[str]:
    """A list of texts; one text alone counts as a list of one, not as its letters."""
    return [values] if isinstance(values, str) else list(values)


def name_list(units: Iterable[str | UnitName] | str) -> list[str]:
    """The full names of units."""
    return [units] if isinstance(units, str) else [str(unit) for unit in units]


def every_page(application: str, method: str, request: Any, field: str) -> Plan[tuple[Any, ...]]:
    """Call a List RPC until its last page; returns what ``field`` of the pages holds."""
    request.page_size = settings().max_page_size
    found: list[Any] = []
    while True:
        page = yield Rpc(application, method, request)
        found += getattr(page, field)
        if not page.next_page_token:
            return tuple(found)
        request.page_token = page.next_page_token
