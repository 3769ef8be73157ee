"""How soon a change reaches an attached model, and what that costs: ``python benchmarks/attach.py``, beside a server.

Prints the time from the start of the call that changes something at the server to when the next forward pass here obeys
it, and the median time of a forward pass: plain, attached and unsteered, attached and steered.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import torch

from miclip.attach import Steering, attach
from miclip.catalogue import load_target
from miclip.client import MiclipClient, make_policy
from miclip.errors import NotFound
from miclip.models.target import TargetModel
from miclip.steering.edits import Edit, Op

MODEL = "emoji-resnet"
ROUNDS = 60
ROWS = 8


def main() -> None:
    """Measure and print."""
    target, name = load_target(MODEL), f"benchmark-{uuid.uuid4().hex[:8]}"
    edits = [Edit("layer4", unit, Op.SCALE, 0.0) for unit in range(5)]
    with MiclipClient() as client:
        plain = _forward_ms(target)
        policy = client.create_policy(name, make_policy(model=MODEL, edits=edits))
        try:
            with attach(target, policy=name, client=client) as steering:
                updates, stops = [], []
                for _ in range(ROUNDS):
                    began = time.perf_counter()
                    policy = client.update_policy(policy)
                    newest = policy.version
                    updates.append(_until(lambda newest=newest: _version(steering, name) == newest) - began)
                    began = time.perf_counter()
                    client.stop_steering("benchmark", model=MODEL)
                    stops.append(_until(lambda: steering.stopped) - began)
                    client.resume_steering("benchmark", model=MODEL)
                    _until(lambda: not steering.stopped)
                steered = _forward_ms(target)
                with steering.using(None):
                    unsteered = _forward_ms(target)
        finally:
            client.resume_steering("benchmark", model=MODEL)
            with suppress(NotFound):
                client.delete_policy(name)
    for what, seconds in (("new version", updates), ("kill switch", stops)):
        milliseconds = [1e3 * second for second in seconds]
        worst = max(milliseconds)
        print(f"{what}: median {statistics.median(milliseconds):.1f} ms, worst of {ROUNDS} {worst:.1f} ms")
    print(f"forward of {ROWS} images: plain {plain:.2f} ms, attached {unsteered:.2f} ms, steered {steered:.2f} ms")


def _version(steering: Steering, name: str) -> int:
    policy = steering.policies.get(f"policies/{name}")
    return policy.version if policy else 0


def _until(condition: Callable[[], bool]) -> float:
    """When the condition was first seen; forward passes read the same state."""
    while not condition():
        time.sleep(0.0002)
    return time.perf_counter()


def _forward_ms(target: TargetModel) -> float:
    """Median time of a forward pass in milliseconds."""
    images, times = torch.zeros(ROWS, 3, target.input_size, target.input_size), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        target.forward(images)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


if __name__ == "__main__":
    main()
