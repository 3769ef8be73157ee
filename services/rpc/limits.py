"""Checks that many RPCs share; each names the field, the value and the allowed range."""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from miclip.errors import InvalidInput

T = TypeVar("T")


def check_range(value: int, field: str, low: int, high: int) -> int:
    """Return ``value`` if ``low <= value <= high``; raises InvalidInput."""
    if not low <= value <= high:
        allowed = f"{low} to {high}"
        raise InvalidInput(f"{field} is {value}; allowed is {allowed}.", field=field, allowed=allowed)
    return value


def check_size(values: Sequence[object], field: str, low: int, high: int) -> None:
    """Check the number of entries of a repeated field."""
    if not low <= len(values) <= high:
        allowed = f"{low} to {high} entries"
        raise InvalidInput(f"{field} has {len(values)} entries; allowed is {allowed}.", field=field, allowed=allowed)


class PageRequest(Protocol):
    """A request of a list."""

    page_size: int
    page_token: str

    def SerializeToString(self, *, deterministic: bool = False) -> bytes: ...  # noqa: D102


def page_of(items: Sequence[T], request: PageRequest, max_page_size: int) -> tuple[Sequence[T], str]:
    """One page of ``items`` and the token of the next (empty at the end).

    Raises:
        InvalidInput: ``page_size`` is too large (0 means 50), or the token was not made for this list.
    """
    size = check_range(request.page_size, "page_size", 0, max_page_size) or min(50, max_page_size)
    which = _list_id(request)
    start = _offset(request.page_token, which, len(items))
    end = start + size
    token = base64.urlsafe_b64encode(f"{which}:{end}".encode()).decode() if end < len(items) else ""
    return items[start:end], token


def _list_id(request: PageRequest) -> str:
    """Tells lists apart: by the type of the request and all that it asks for but the page."""
    asked = copy.copy(request)
    asked.page_size, asked.page_token = 0, ""
    content = type(request).__name__.encode() + asked.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[:12]


def _offset(token: str, which: str, total: int) -> int:
    if not token:
        return 0
    try:
        listed, _, offset = base64.urlsafe_b64decode(token.encode("ascii")).decode("ascii").partition(":")
        start = int(offset) if listed == which else -1
    except ValueError:
        start = -1
    if not 0 <= start <= total:
        raise InvalidInput(
            "page_token is not one that this list returned; leave it empty to start again.",
            field="page_token",
            allowed="next_page_token of the page before",
        )
    return start
