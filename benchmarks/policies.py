"""What a policy costs a request: ``python benchmarks/policies.py``.

Measures the server that MICLIP_ENDPOINT names, or the one of this machine, which is started where none runs.

Prints the median duration of ``Predict`` of one image by one client, without a policy and under policies of 5, 50 and
1024 edits, and each as a multiple of ``Predict`` without. The floor is the same work in this process without a service:
decode, preprocess, one forward pass.

The kinds of calls take turns, call by call and each time in another order, so that a busy machine disturbs all of them
alike. The spread of a ratio is its 5th to 95th percentile over resamples of the turns.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from miclip.catalogue import load_target
from miclip.client import MiclipClient, make_policy
from miclip.demo.assets import ASSETS
from miclip.images import decode_image
from miclip.steering.edits import Edit, Op

MODEL = "emoji-resnet"
LAYERS = {"layer4": 256, "layer3": 128, "layer2": 64, "layer1": 32}
EDITS = {5: 1.1, 50: 1.15, 1024: 1.6}
"""Number of edits, and the ratio that a policy of so many must not exceed."""
FLOOR, NONE = "floor", "no policy"
Seconds = npt.NDArray[np.float64]
Call = Callable[[bytes], object]


def edits(count: int) -> list[Edit]:
    """Return edits of the strongest layers' units; beyond all units, further edits of the same units."""
    units = [(layer, unit) for layer, size in LAYERS.items() for unit in range(size)]
    return [Edit(*units[index % len(units)], Op.SCALE, 1.01) for index in range(count)]


def measure(calls: dict[str, Call], images: list[bytes], turns: int) -> dict[str, Seconds]:
    """Return the seconds of every call, in the order of the turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = [*calls], random.Random(0).shuffle
    for turn in range(turns):
        shuffle(order)
        for name in order:
            started = time.perf_counter()
            calls[name](images[turn % len(images)])
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def spread(numerator: Seconds, denominator: Seconds, resamples: int = 1000) -> tuple[float, float]:
    """Return the 5th and 95th percentile of the ratio of medians, over resamples of the turns."""
    turns = np.random.default_rng(0).integers(len(numerator), size=(resamples, len(numerator)))
    ratios = np.median(numerator[turns], axis=1) / np.median(denominator[turns], axis=1)
    low, high = np.percentile(ratios, [5, 95])
    return float(low), float(high)


def show(seconds: dict[str, Seconds], targets: dict[str, float]) -> None:
    """Print the table."""
    print(f"{'call':24} {'p50 ms':>7} {'p99 ms':>7} {'× no policy':>11} {'5-95 %':>13} {'at most':>8}")
    for name, values in seconds.items():
        ratio = float(np.median(values) / np.median(seconds[NONE]))
        low, high = spread(values, seconds[NONE])
        target = f"{targets[name]:.2f}" if name in targets else ""
        median, slow = 1e3 * np.median(values), 1e3 * np.percentile(values, 99)
        print(f"{name:24} {median:>7.2f} {slow:>7.1f} {ratio:>11.3f} {f'{low:.2f} to {high:.2f}':>13} {target:>8}")


def floor() -> Call:
    """Return the same work without a service."""
    model = load_target(MODEL)
    return lambda image: model.forward(model.preprocess(decode_image(image, field="image"))[None])


@contextmanager
def running_server() -> Iterator[None]:
    """Start the server of this machine where there is none to measure, and end it again."""
    from services.node import control

    if os.environ.get("MICLIP_ENDPOINT") or control.status():
        yield
        return
    control.start(progress=lambda stage: print(stage, file=sys.stderr))
    try:
        yield
    finally:
        control.stop()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1000, help="calls of each kind")
    chosen = parser.parse_args()
    images = [path.read_bytes() for path in sorted((ASSETS / "images" / "twemoji").glob("*.webp"))]
    run = uuid.uuid4().hex[:6]
    with running_server(), MiclipClient() as client:
        policies = {
            f"policy of {count} edits": client.create_policy(
                f"benchmark-{run}-{count}", make_policy(model=MODEL, edits=edits(count), ttl_seconds=3600)
            ).name
            for count in EDITS
        }
        try:
            calls: dict[str, Call] = {FLOOR: floor(), NONE: lambda image: client.predict([image], model=MODEL)}
            for name, policy in policies.items():
                calls[name] = lambda image, policy=policy: client.predict([image], model=MODEL, policy=policy)  # type: ignore[misc]
            measure(calls, images, 50)  # warms up
            show(measure(calls, images, chosen.turns), dict(zip(policies, EDITS.values(), strict=True)))
        finally:
            for policy in policies.values():
                client.delete_policy(policy)


if __name__ == "__main__":
    main()
