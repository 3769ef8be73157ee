"""What alignment and its baselines cost: seconds, floating-point operations, peak memory; one after the other, here.

The passes over the probe set that several methods share stand on their own lines, so that the price of a method is its
own line and those it builds on.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil
from torch.utils.flop_counter import FlopCounterMode

INTERVAL = 0.005


@dataclass(frozen=True)
class Cost:
    """Cost of one step.

    Attributes:
        seconds: Wall-clock time.
        gflop: Floating-point operations in matrix products and convolutions, in 10⁹.
        peak_mb: Largest growth of the process's resident memory, in 10⁶ bytes.
    """

    seconds: float
    gflop: float
    peak_mb: float


def measure(step: Callable[[], Any], flops: float | None = None) -> tuple[Any, Cost]:
    """Run a step and return what it gives and what it cost.

    Args:
        step: What to run; run once.
        flops: Its operations where torch does not see them (NumPy); default as torch counts them.
    """
    _release()
    with _Memory() as memory, FlopCounterMode(display=False) as counter:
        started = time.perf_counter()
        value = step()
        seconds = time.perf_counter() - started
    counted = counter.get_total_flops() if flops is None else flops
    return value, Cost(seconds, counted / 1e9, memory.growth / 1e6)


def as_json(costs: dict[str, Cost]) -> dict[str, dict[str, float]]:
    """Return the costs by step."""
    return {name: asdict(cost) for name, cost in costs.items()}


def _release() -> None:
    """Give freed memory back to the system, so that a step's growth is not hidden in what an earlier one left."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc's
        libc.malloc_trim(0)


class _Memory:
    """Watches the resident memory of this process from a thread."""

    def __enter__(self) -> _Memory:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._first = self._peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._peak = max(self._peak, self._process.memory_info().rss)

    @property
    def growth(self) -> int:
        """Bytes by which the peak exceeds the start."""
        return self._peak - self._first

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._peak = max(self._peak, self._process.memory_info().rss)
