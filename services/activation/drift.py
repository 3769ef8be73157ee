"""Watching label drift in live traffic: a bounded sample of unsteered images a model, whatever the load."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from miclip.atlas import Atlas
from miclip.atlas.drift import DriftMonitor
from services.metrics import series

if TYPE_CHECKING:
    from services.activation.batching import RowOutput

_IMAGES = 16  # of one request


class DriftWatch:
    """Feeds a model's ``DriftMonitor`` and exports what it says.

    One request in ``interval_s`` is taken, and at most 16 images of it; they have one more layer read in the forward
    pass that they are in anyway.

    Args:
        model: Id of the catalogue.
        interval_s: Least time between two requests that are taken, in seconds.
        clock: Seconds from any start.
    """

    def __init__(self, model: str, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._model, self._interval_s, self._clock = model, interval_s, clock
        self._atlas_id, self._layer = "", ""
        self._monitor: DriftMonitor | None = None
        self._next = 0.0

    def follow(self, atlas: Atlas) -> None:
        """Compare with this atlas from now on; reads its activations, so call it in a thread."""
        if atlas.atlas_id != self._atlas_id:
            monitor = DriftMonitor(atlas.layer(atlas.default_layer))
            self._atlas_id, self._layer, self._monitor = atlas.atlas_id, atlas.default_layer, monitor

    def due(self) -> tuple[str, ...]:
        """The layer to capture when the request at hand is one to take; nothing otherwise."""
        now = self._clock()
        if self._monitor is None or now < self._next:
            return ()
        self._next = now + self._interval_s
        return (self._layer,)

    def observe(self, outputs: Sequence[RowOutput]) -> None:
        """Take in those rows that captured the layer."""
        monitor, layer = self._monitor, self._layer
        rows = [output.activations[layer].numpy() for output in outputs if layer in output.activations][:_IMAGES]
        if monitor is None or not rows or len(rows[0]) != monitor.units:
            return
        monitor.add(np.stack(rows))
        similarity = monitor.similarity()
        if similarity is not None:
            series.LABEL_SIMILARITY.labels(self._model).set(similarity)
