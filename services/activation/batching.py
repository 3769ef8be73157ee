"""One queue a model: steered, unsteered and capturing requests meet in one batch and one forward pass."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from miclip import telemetry
from miclip.models.target import TargetModel
from miclip.steering.edits import NO_EDITS, CompiledEdits, assemble
from services.metrics import series

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_SERVICE = "activation"


@dataclass(frozen=True)
class Row:
    """One image with what is to be done to it.

    Attributes:
        image: float32 ``[3, S, S]``, preprocessed.
        edits: Compiled for the model, on its device; empty for none.
        capture: Layers to read.
    """

    image: Tensor
    edits: CompiledEdits = NO_EDITS
    capture: tuple[str, ...] = ()


@dataclass
class RowOutput:
    """What the model made of one row, on the CPU.

    Attributes:
        logits: float32 ``[K]``.
        activations: Pooled float32 ``[d]`` by captured layer.
    """

    logits: Tensor
    activations: dict[str, Tensor]


@dataclass
class _Request:
    done: asyncio.Future[list[RowOutput]]
    outputs: list[RowOutput | None]
    missing: int
    arrived: float
    trace: SpanContext | None = None
    started: float = 0.0
    forward_s: float = 0.0


@dataclass
class BatchTimes:
    """Seconds a request waited for its first batch, and seconds its batches ran."""

    queue: float
    forward: float


@dataclass
class Batcher:
    """Collects rows and runs the model in a thread of its own.

    A batch starts when it is full, or when nobody is about to join it, at the latest after ``wait_s``. Rows of callers
    that have gone (deadline, cancelled) are dropped before they cost anything.
    """

    model: TargetModel
    max_rows: int
    wait_s: float
    batches: int = 0
    """Forward passes so far."""
    _queue: deque[tuple[_Request, int, Row]] = field(default_factory=deque)
    _coming: int = 0
    _worker: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"forward-{self.model.name}")
        self._joined = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._queue and not self._coming and (self._worker is None or self._worker.done())

    def close(self) -> None:
        """End the thread, once what runs in it has ended; the batcher takes no more rows."""
        self._thread.shutdown(wait=False)

    @contextlib.contextmanager
    def announced(self) -> Iterator[None]:
        """Tell that a request is being decoded, so that a batch waits for it for a moment."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._joined.set()

    async def run(self, rows: Sequence[Row]) -> tuple[list[RowOutput], BatchTimes]:
        """Run rows, together with whatever else waits; outputs are in the order of ``rows``."""
        request = _Request(
            asyncio.get_running_loop().create_future(),
            [None] * len(rows),
            len(rows),
            time.perf_counter(),
            telemetry.current(),
        )
        self._queue.extend((request, index, row) for index, row in enumerate(rows))
        self._joined.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), context=Context())  # a batch is no caller's
        outputs = await request.done
        telemetry.record(_SERVICE, "queue", request.arrived, request.started - request.arrived)
        telemetry.record(_SERVICE, "batches", request.started, request.forward_s)
        return outputs, BatchTimes(request.started - request.arrived, request.forward_s)

    async def _work(self) -> None:
        while self._queue:
            held = time.perf_counter()
            await self._gather()
            series.BATCH_WAIT_SECONDS.labels(self.model.name).observe(time.perf_counter() - held)
            batch = self._take()
            if batch:
                await self._forward(batch)

    async def _gather(self) -> None:
        until = time.perf_counter() + self.wait_s
        while self._coming and len(self._queue) < self.max_rows:
            self._joined.clear()
            try:
                await asyncio.wait_for(self._joined.wait(), max(0.0, until - time.perf_counter()))
            except TimeoutError:
                return

    def _take(self) -> list[tuple[_Request, int, Row]]:
        batch: list[tuple[_Request, int, Row]] = []
        while self._queue and len(batch) < self.max_rows:
            entry = self._queue.popleft()
            if not entry[0].done.done():
                batch.append(entry)
        return batch

    async def _forward(self, batch: list[tuple[_Request, int, Row]]) -> None:
        started = time.perf_counter()
        requests = {id(request): request for request, _, _ in batch}.values()
        for request in requests:
            if not request.started:
                request.started = started
                series.STAGE_SECONDS.labels(_SERVICE, "queue").observe(started - request.arrived)
        series.BATCH_ROWS.labels(self.model.name).observe(len(batch))
        try:
            rows = [row for _, _, row in batch]
            links = [request.trace for request in requests if request.trace]
            with telemetry.span(_SERVICE, "batch", links=links, rows=len(rows)):
                run = copy_context().run
                outputs = await asyncio.get_running_loop().run_in_executor(self._thread, run, self._compute, rows)
        except Exception as error:
            for request in requests:
                if not request.done.done():
                    request.done.set_exception(error)
            return
        self.batches += 1
        for request in requests:
            request.forward_s += time.perf_counter() - started
        for (request, index, _), output in zip(batch, outputs, strict=True):
            _deliver(request, index, output)

    def _compute(self, rows: Sequence[Row]) -> list[RowOutput]:
        images = torch.stack([row.image for row in rows])
        with series.stage(_SERVICE, "compile"):
            edits = assemble([row.edits for row in rows], self.model.layer_sizes)
        capture = tuple(dict.fromkeys(layer for row in rows for layer in row.capture))
        with series.stage(_SERVICE, "forward"):
            output = self.model.forward(images, capture, edits)
        return [
            RowOutput(output.logits[i], {layer: output.activations[layer][i] for layer in row.capture})
            for i, row in enumerate(rows)
        ]


def _deliver(request: _Request, index: int, output: RowOutput) -> None:
    request.outputs[index] = output
    request.missing -= 1
    if request.missing == 0 and not request.done.done():
        request.done.set_result([each for each in request.outputs if each is not None])
