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
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from miclip.alignment import EncoderSettings, ProbeSet, train_encoder
from miclip.evaluation.measures import Cost, Costs
from miclip.evaluation.methods import METHODS, ProbeData
from miclip.evaluation.methods.network_dissection import positions_of
from miclip.models.clip import Clip
from miclip.models.target import TargetModel

BATCH = 64
INTERVAL = 0.005
MOST_IMAGES = 2560
"""Probe images that steps are timed on, at most."""


def costs(model: TargetModel, layer: str, clip: Clip, probe: ProbeSet) -> Costs:
    """Measure what aligning one layer takes and what every method with a price takes, step by step."""
    clock = _Clock()
    data = _measured_probe(clock, model, layer, clip, probe)
    needs: dict[str, tuple[str, ...]] = {}
    for method in METHODS:
        price = method.price
        if price is None:
            continue
        if price.run is None or clock.step(method.name, price.run, data, price.flops) is not None:
            needs[method.name] = price.needs
    images, units = data.activations.shape
    return Costs(layer=layer, images=images, units=units, steps=clock.steps, needs=needs)


class _Clock:
    """Costs by step."""

    def __init__(self) -> None:
        self.steps: dict[str, Cost] = {}

    def run(self, name: str, step: Callable[[], Any], flops: float | None = None) -> Any:
        """Run a step and keep its cost."""
        value, self.steps[name] = measure(step, flops)
        return value

    def step(
        self, name: str, run: Callable[[ProbeData], Any], data: ProbeData, flops: Callable[[ProbeData], float] | None
    ) -> Any:
        """Run a method's own step; one that cannot be used here leaves no cost."""
        value = self.run(name, lambda: run(data), flops(data) if flops else None)
        if value is None:
            del self.steps[name]
        return value


def _measured_probe(clock: _Clock, model: TargetModel, layer: str, clip: Clip, probe: ProbeSet) -> ProbeData:
    """The passes over the probe images that methods share, each a step."""
    images = probe.load(0, min(len(probe.names), MOST_IMAGES))
    batch = torch.stack([model.preprocess(image) for image in images])
    parts, places = batch.split(BATCH), range(0, len(images), BATCH)
    model.attribute(parts[0], [layer])  # the first pass of a process is slow
    clip.embed_images(images[:BATCH])
    outputs = clock.run("activations", lambda: [model.forward(part, [layer]) for part in parts])
    activations = torch.cat([output.activations[layer] for output in outputs]).numpy()
    predicted = torch.cat([output.logits for output in outputs]).argmax(dim=1).numpy().astype(np.int64)
    attributed = clock.run("attributions", lambda: [model.attribute(part, [layer])[2][layer] for part in parts])
    embedded = clock.run(
        "image embeddings", lambda: np.concatenate([clip.embed_images(images[at : at + BATCH]) for at in places])
    )
    texts = clock.run("text embeddings", lambda: clip.embed_texts(list(model.labels)))
    sources = np.arange(len(images)) % (len(probe.names) // probe.views)
    inputs = (activations, predicted, texts, embedded, sources)
    encoder = clock.run("encoder", lambda: train_encoder(*inputs, EncoderSettings()))
    return ProbeData(
        activations=activations,
        attributions=torch.cat(attributed).numpy(),
        predicted=predicted,
        images=embedded,
        names=texts,
        positions=positions_of(model, layer, probe, batch),
        encoder=encoder,
    )


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
    return value, Cost(seconds=seconds, gflop=counted / 1e9, peak_mb=memory.growth / 1e6)


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
