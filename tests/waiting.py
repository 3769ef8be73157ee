"""Waiting for what happens elsewhere, never for longer than is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], timeout_s: float = 10.0, *, every_s: float = 0.05, why: Callable[[], str] = lambda: ""
) -> T:
    """Return the first value of ``condition`` that is true; an AssertionError says that there was none in time.

    Args:
        condition: Asked again and again, at least once.
        timeout_s: Longest wait in seconds.
        every_s: Seconds between two questions.
        why: Gives what the error says besides, such as the end of a log.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so within {timeout_s} s {why()}"
        time.sleep(every_s)
    return value


async def wait_until_async(
    condition: Callable[[], T] | Callable[[], Awaitable[T]], timeout_s: float = 10.0, *, every_s: float = 0.02
) -> T:
    """Like :func:`wait_until`, while the event loop goes on; ``condition`` may be a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not so within {timeout_s} s"
        await asyncio.sleep(every_s)
