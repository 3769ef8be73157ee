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
    target, other, name = load_target(MODEL), load_target(MODEL), f"benchmark-{uuid.uuid4().hex[:8]}"
    edits = [Edit("layer4", unit, Op.SCALE, 0.0) for unit in range(5)]
    with MiclipClient() as client:
        client.create_policy(name, make_policy(model=MODEL, edits=edits))
        try:
            with attach(target, policy=name, client=client) as steering:
                _print_delays(client, steering, name)
                _print_costs(target, other, steering)
        finally:
            client.resume_steering("benchmark", model=MODEL)
            with suppress(NotFound):
                client.delete_policy(name)


def _print_delays(client: MiclipClient, steering: Steering, name: str) -> None:
    delays: dict[str, list[float]] = {"new version": [], "kill switch": []}
    policy = client.get_policy(name)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        policy = client.update_policy(policy)
        newest = policy.version
        delays["new version"].append(_until(lambda newest=newest: _version(steering, name) == newest) - began)
        began = time.perf_counter()
        client.stop_steering("benchmark", model=MODEL)
        delays["kill switch"].append(_until(lambda: steering.stopped) - began)
        client.resume_steering("benchmark", model=MODEL)
        _until(lambda: not steering.stopped)
    for what, seconds in delays.items():
        print(
            f"{what}: median {1e3 * statistics.median(seconds):.1f} ms, worst of {ROUNDS} {1e3 * max(seconds):.1f} ms"
        )


def _print_costs(target: TargetModel, other: TargetModel, steering: Steering) -> None:
    """Alternating, so that a busy machine is busy for all three."""
    images = torch.zeros(ROWS, 3, target.input_size, target.input_size)
    times: dict[str, list[float]] = {"plain": [], "attached": [], "steered": []}
    for _ in range(ROUNDS):
        times["plain"].append(_forward_ms(other, images))
        times["steered"].append(_forward_ms(target, images))
        with steering.using(None):
            times["attached"].append(_forward_ms(target, images))
    shown = ", ".join(f"{what} {statistics.median(spent):.2f} ms" for what, spent in times.items())
    print(f"forward of {ROWS} images, median: {shown}")


def _version(steering: Steering, name: str) -> int:
    policy = steering.policies.get(f"policies/{name}")
    return policy.version if policy else 0


def _until(condition: Callable[[], bool]) -> float:
    """When the condition was first seen; forward passes read the same state."""
    while not condition():
        time.sleep(0.0002)
    return time.perf_counter()


def _forward_ms(target: TargetModel, images: torch.Tensor) -> float:
    began = time.perf_counter()
    target.forward(images)
    return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
