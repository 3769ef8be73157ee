"""Moments as messages, and back."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def write_time(moment: datetime | float) -> Timestamp:
    """A moment, or seconds since the epoch, as a message."""
    message = Timestamp()
    message.FromDatetime(moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC))
    return message


def read_time(message: Timestamp) -> datetime:
    """A moment, in UTC."""
    return message.ToDatetime(UTC)
