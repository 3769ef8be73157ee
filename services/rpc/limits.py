"""Checks that many RPCs share; each names the field, the value and the allowed range."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from miclip.errors import InvalidInput

T = TypeVar("T")


def check_range(value: int, field: str, low: int, high: int, *, default: int | None = None) -> int:
    """Return ``value`` if ``low <= value <= high``; 0 becomes ``default`` where there is one."""
    if value == 0 and default is not None:
        return default
    if not low <= value <= high:
        allowed = f"{low} to {high}"
        raise InvalidInput(f"{field} is {value}; allowed is {allowed}.", field=field, allowed=allowed)
    return value


def check_size(values: Sequence[object], field: str, low: int, high: int) -> None:
    """Check the number of entries of a repeated field."""
    if not low <= len(values) <= high:
        allowed = f"{low} to {high} entries"
        raise InvalidInput(f"{field} has {len(values)} entries; allowed is {allowed}.", field=field, allowed=allowed)


def check_text(text: str, field: str, max_chars: int, *, empty: bool = False) -> str:
    """Return ``text`` stripped, if it has 1 (0 where ``empty``) to ``max_chars`` characters, none of them control."""
    stripped = text.strip()
    low, count = 0 if empty else 1, len(stripped)
    allowed = f"{low} to {max_chars} characters"
    if not low <= count <= max_chars:
        raise InvalidInput(f"{field} has {count} characters; allowed is {allowed}.", field=field, allowed=allowed)
    if any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF for c in stripped):
        raise InvalidInput(f"{field} holds control characters; remove them.", field=field, allowed=allowed)
    return stripped


def page_of(items: Sequence[T], page_size: int, page_token: str, max_page_size: int) -> tuple[Sequence[T], str]:
    """One page of ``items`` and the token of the next (empty at the end).

    Raises:
        InvalidInput: ``page_size`` is negative or too large (0 means 50), or the token was not made here.
    """
    size = check_range(page_size, "page_size", 0, max_page_size) or min(50, max_page_size)
    start = _offset(page_token, len(items))
    end = start + size
    token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return items[start:end], token


def _offset(token: str, total: int) -> int:
    if not token:
        return 0
    try:
        offset = int(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, binascii.Error):
        offset = -1
    if not 0 <= offset <= total:
        raise InvalidInput(
            "page_token is not one that this list returned; leave it empty to start again.",
            field="page_token",
            allowed="next_page_token of the page before",
        )
    return offset
