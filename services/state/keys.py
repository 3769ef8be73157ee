"""API keys as values: made at random, stored as a hash, compared in constant time, scoped."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    ALIGN = "align"
    STEER = "steer"


ALL_SCOPES = frozenset(Scope)


class KeyRecord(BaseModel):
    """A key as it is stored: its SHA-256, never itself.

    A random 256-bit key has nothing to guess, so a plain hash is enough and costs microseconds a call.
    """

    model_config = ConfigDict(frozen=True)

    key_id: str
    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created_at: float


def new_key(name: str, scopes: Iterable[Scope] = ALL_SCOPES, *, key: str = "") -> tuple[str, KeyRecord]:
    """Make a key (or take ``key``) for the holder ``name``, and its record."""
    text = key or f"miclip_{secrets.token_urlsafe(32)}"
    record = KeyRecord(
        key_id=secrets.token_hex(4),
        name=name,
        sha256=digest(text),
        scopes=tuple(sorted(set(scopes))),
        created_at=time.time(),
    )
    return text, record


def digest(key: str) -> str:
    """SHA-256 of a key in hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def match(key: str, records: Sequence[KeyRecord]) -> KeyRecord | None:
    """The record of ``key``, or None; every record is compared, each in constant time."""
    wanted, found = digest(key), None
    for record in records:
        if hmac.compare_digest(wanted, record.sha256):
            found = record
    return found
