"""A small model, a server of its policies that runs here, and what the model gives under edits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from datetime import UTC, datetime
from typing import Any

import grpc
import torch
from torch import Tensor, nn

from miclip.attach import Steering
from miclip.client import make_policy
from miclip.steering.edits import Edit, Op
from miclip.v1 import (
    activation_pb2,
    activation_pb2_grpc,
    resources_pb2,
    steering_pb2,
    steering_pb2_grpc,
)
from miclip.wire.policies import write_policy

MODEL = "models/toy"
UNITS = 6


class Toy(nn.Module):
    """Two layers of maps, a pooled vector, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, UNITS, 3, padding=1), nn.ReLU())
        self.body = nn.Conv2d(UNITS, UNITS, 3, padding=1)
        self.head = nn.Linear(UNITS, 3)
        self.entered: Callable[[], None] = lambda: None

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        self.entered()
        logits: Tensor = self.head(self.body(x).relu().mean((2, 3)))
        return logits


class PolicyServer:
    """Real gRPC; speaks of one model, and of the policies that a test gives it."""

    def __init__(self, weights_sha256: str) -> None:
        self.weights_sha256, self.heartbeat_s, self.stale = weights_sha256, 0.2, False
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self.policies: dict[str, steering_pb2.Policy] = {}
        self.stops: list[steering_pb2.SteeringStop] = []
        self.streams, self.changed = 0, threading.Condition()
        self._versions, self._up, self._port = 0, False, 0
        self.start()

    def start(self) -> None:
        """Answer, at the same address as before."""
        self._server, self._up = grpc.server(futures.ThreadPoolExecutor(8)), True
        activation = type("A", (activation_pb2_grpc.ActivationServiceServicer,), {"GetModel": self._get_model})
        steering = type("S", (steering_pb2_grpc.SteeringServiceServicer,), {"WatchPolicies": self._watch})
        activation_pb2_grpc.add_ActivationServiceServicer_to_server(activation(), self._server)
        steering_pb2_grpc.add_SteeringServiceServicer_to_server(steering(), self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self.endpoint = f"127.0.0.1:{self._port}"
        self._server.start()

    def stop(self) -> None:
        """Go away."""
        with self.changed:
            self._up = False
            self.changed.notify_all()
        self._server.stop(0).wait()

    def write(self, name: str, edits: Sequence[Edit], **fields: Any) -> None:
        """Make a policy, or its next version."""
        policy = make_policy(model=MODEL, edits=edits, **fields)
        with self.changed:
            self._versions += 1
            stored = {"policy_id": name, "version": self._versions, "etag": str(self._versions)}
            message = write_policy(policy.replaced(**stored, update_time=datetime.now(UTC)))
            self.policies[message.name] = message
            self.changed.notify_all()

    def delete(self, name: str) -> None:
        with self.changed:
            del self.policies[f"policies/{name}"]
            self.changed.notify_all()

    def set_stops(self, *models: str) -> None:
        with self.changed:
            self.stops = [steering_pb2.SteeringStop(model=model, reason="r") for model in models]
            self.changed.notify_all()

    def _get_model(self, request: Any, context: grpc.ServicerContext) -> activation_pb2.GetModelResponse:
        layers = [activation_pb2.Layer(name=f"{MODEL}/layers/{name}", units=units, kind=kind) for name, units, kind in (
            ("stem", UNITS, resources_pb2.LAYER_KIND_CHANNELS), ("body", UNITS, resources_pb2.LAYER_KIND_CHANNELS),
            ("logits", 3, resources_pb2.LAYER_KIND_LOGITS))]  # fmt: skip
        model = activation_pb2.Model(name=MODEL, weights_sha256=self.weights_sha256, layers=layers)
        return activation_pb2.GetModelResponse(model=model)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if self.refusal:
            context.abort(*self.refusal)
        self.streams += 1
        told: Any = None
        while context.is_active() and self._up:
            with self.changed:
                now = (dict(self.policies), list(self.stops), self.stale)
                if told == now:
                    self.changed.wait(self.heartbeat_s)
                    now = (dict(self.policies), list(self.stops), self.stale)
            message = steering_pb2.WatchPoliciesResponse(heartbeat_seconds=self.heartbeat_s, stale=now[2])
            message.send_time.GetCurrentTime()
            if told is None or told[:2] != now[:2]:
                parts = list(now[0].values()) or [None]
                for place, policy in enumerate(parts):  # a part a policy, so that parts are put together
                    part = steering_pb2.PolicySnapshot(first=place == 0, last=place == len(parts) - 1)
                    part.policies.extend([policy] if policy else [])
                    part.stops.extend(now[1] if part.first else [])
                    message.snapshot.CopyFrom(part)
                    yield message
            else:
                message.heartbeat.SetInParent()
                yield message
            told = now


def outcomes(steering: Steering) -> list[str]:
    return [one.outcome for one in steering.applied]


def expected(toy: Toy, images: Tensor, *, body: dict[int, tuple[float, float]]) -> Tensor:
    """The output with ``gain, bias`` on units of the second layer, by plain arithmetic."""
    x = toy.body(toy.stem(images))
    gain, bias = torch.ones(UNITS), torch.zeros(UNITS)
    for unit, (factor, offset) in body.items():
        gain[unit], bias[unit] = factor, offset
    x = gain[:, None, None] * x + bias[:, None, None]
    logits: Tensor = toy.head(x.relu().mean((2, 3)))
    return logits


ZERO = [Edit("body", 2, Op.SCALE, 0.0)]
MORE = [Edit("body", 1, Op.SCALE, 3.0), Edit("body", 1, Op.ADD, 0.5)]
