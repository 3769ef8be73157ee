"""A small thread-safe cache of things that are costly to build."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Builds each value once, even when many threads ask for it at the same time.

    Args:
        size: Values kept; the one unused for longest goes first. None: no limit.
    """

    def __init__(self, size: int | None = None) -> None:
        self._size, self._lock = size, Lock()
        self._values: OrderedDict[Hashable, Future[Value]] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], Value]) -> Value:
        """Return the value of ``key``, building it when it is not there; what ``build`` raises is not kept."""
        with self._lock:
            future = self._values.get(key)
            builder = future is None
            if future is None:
                future = self._values[key] = Future()
            self._values.move_to_end(key)
            while self._size is not None and len(self._values) > self._size:
                self._values.popitem(last=False)
        if builder:
            self._build(key, future, build)
        return future.result()

    def _build(self, key: Hashable, future: Future[Value], build: Callable[[], Value]) -> None:
        try:
            future.set_result(build())
        except BaseException as error:
            with self._lock:
                if self._values.get(key) is future:
                    del self._values[key]
            future.set_exception(error)
