"""A model in this process, steered by what a server says: which rows, when, and nothing left behind."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import torch
from torch import Tensor, nn

from miclip.attach import Steering, attach
from miclip.client import MiclipClient, make_policy
from miclip.errors import (
    AlreadyExists,
    BadArtefact,
    InvalidInput,
    NotFound,
    NotReady,
    PermissionDenied,
)
from miclip.models.weights import state_sha256
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import Policy
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


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))


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


@pytest.fixture
def server(toy: Toy) -> Iterator[PolicyServer]:
    made = PolicyServer(state_sha256(toy.state_dict()))
    yield made
    made.stop()


@pytest.fixture
def client(server: PolicyServer) -> Iterator[MiclipClient]:
    with MiclipClient(endpoint=server.endpoint, api_key="k") as made:
        yield made


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


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


@torch.no_grad()
def test_every_forward_pass_makes_the_edits_of_the_policy(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    plain, wanted = toy(images), expected(toy, images, body={1: (3.0, 0.5)})
    server.write("p", MORE)
    with attach(toy, "toy", policy="p", client=client) as steering:
        assert torch.allclose(toy(images), wanted, atol=1e-6)
        assert not torch.allclose(plain, wanted, atol=1e-3)
        assert outcomes(steering) == ["applied"] * 4
        assert steering.applied[0].fingerprint == steering.policies["policies/p"].fingerprint
    assert torch.equal(toy(images), plain)


@torch.no_grad()
def test_rows_of_a_mixed_batch_are_as_they_are_alone(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    server.write("zero", ZERO)
    server.write("more", MORE)
    server.write("label", [Edit("logits", 0, Op.ADD, 7.0)])
    names = ["zero", None, "policies/more", "label"]
    plain = toy(images)
    with attach(toy, "toy", client=client) as steering:
        assert torch.equal(toy(images), plain)
        with steering.using(names):
            mixed = toy(images)
        assert outcomes(steering) == ["applied", "none", "applied", "applied"]
        for row, name in enumerate(names):
            with steering.using(name):
                assert torch.allclose(toy(images[row : row + 1])[0], mixed[row], atol=1e-6)
        assert torch.allclose(mixed[3] - plain[3], torch.tensor([7.0, 0.0, 0.0]), atol=1e-5)
        with steering.using(names[:2]), pytest.raises(InvalidInput) as caught:
            toy(images)
        assert caught.value.field == "policies"
        assert torch.equal(toy(images), plain)
        with pytest.raises(InvalidInput), steering.using("../etc"):
            raise AssertionError


@torch.no_grad()
def test_an_empty_edit_changes_no_bit(toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient) -> None:
    plain = toy(images)
    server.write("p", [Edit("body", 1, Op.SCALE, 1.0), Edit("stem", 0, Op.ADD, 0.0)])
    with attach(toy, "toy", policy="p", client=client) as steering:
        assert torch.equal(toy(images), plain)
        assert outcomes(steering) == ["none"] * 4


@torch.no_grad()
def test_versions_deletions_and_the_kill_switch_take_effect(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    plain = toy(images)
    with attach(toy, "toy", policy="p", client=client) as steering:
        assert torch.equal(toy(images), plain)
        assert outcomes(steering) == ["not_found"] * 4
        for version, (edits, body) in enumerate(((ZERO, {2: (0.0, 0.0)}), (MORE, {1: (3.0, 0.5)})), 1):
            server.write("p", edits)
            until(lambda version=version: [one.version for one in steering.policies.values()] == [version])
            assert torch.allclose(toy(images), expected_unsteered(steering, toy, images, body), atol=1e-6)
        for model in ("", MODEL):
            server.set_stops(model)
            until(lambda: steering.stopped)
            assert torch.equal(toy(images), plain)
            assert outcomes(steering) == ["stopped"] * 4
            server.set_stops()
            until(lambda: not steering.stopped)
        server.set_stops("models/other")
        server.delete("p")
        until(lambda: not steering.policies)
        assert torch.equal(toy(images), plain)


def expected_unsteered(steering: Steering, toy: Toy, images: Tensor, body: dict[int, tuple[float, float]]) -> Tensor:
    with steering.using(None):
        return expected(toy, images, body=body)


@torch.no_grad()
def test_a_policy_ends_with_its_time_to_live_while_the_server_is_away(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    plain = toy(images)
    server.write("p", MORE, ttl_seconds=2)
    with attach(toy, "toy", policy="p", client=client) as steering:
        server.stop()
        assert not torch.equal(toy(images), plain)
        until(lambda: torch.equal(toy(images), plain))
        assert outcomes(steering) == ["expired"] * 4
        assert not steering.policies


@torch.no_grad()
def test_a_share_steers_the_requests_that_the_server_would(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    server.write("p", MORE, traffic_share=0.4)
    ids = [f"request-{number}" for number in range(40)]
    as_server = Policy(policy_id="p", model="toy", traffic_share=0.4)
    with attach(toy, "toy", client=client) as steering:
        with steering.using("p", request_ids=ids):
            toy(images[:1].expand(40, -1, -1, -1))
        wanted = ["applied" if as_server.applies_to(one) else "not_in_share" for one in ids]
        assert outcomes(steering) == wanted
        assert {"applied", "not_in_share"} == set(wanted)
        with steering.using("p", request_ids=ids[0]):
            toy(images)
        assert outcomes(steering) == wanted[:1] * 4


@torch.no_grad()
def test_a_new_version_never_reaches_a_pass_that_has_begun(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    server.write("p", [Edit("stem", 0, Op.SCALE, 2.0), *ZERO])
    with attach(toy, "toy", policy="p", client=client) as steering:
        before = toy(images)

        def change() -> None:
            toy.entered = lambda: None
            server.delete("p")
            until(lambda: not steering.policies)

        toy.entered = change
        assert torch.equal(toy(images), before)
        assert not torch.equal(toy(images), before)


@torch.no_grad()
def test_detaching_waits_for_the_passes_under_way(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    server.write("p", [Edit("stem", 0, Op.SCALE, 2.0), *ZERO])
    steering = attach(toy, "toy", policy="p", client=client)
    before, closing = toy(images), threading.Thread(target=steering.close)

    def detach() -> None:
        toy.entered = lambda: None
        closing.start()
        time.sleep(0.2)
        assert closing.is_alive()

    toy.entered = detach
    assert torch.equal(toy(images), before)
    closing.join(5)
    assert not closing.is_alive()


@torch.no_grad()
def test_without_the_server_the_last_policies_stay_and_it_is_said_once(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.write("p", MORE)
    with attach(toy, "toy", policy="p", client=client) as steering:
        steered = toy(images)
        assert (steering.stale, steering.applied[0].stale) == (False, False)
        assert steering.age_s < 5
        with caplog.at_level(logging.INFO, logger="miclip.attach"):
            server.stop()
            until(lambda: steering.stale)
            time.sleep(1.0)
            assert torch.equal(toy(images), steered)
            assert steering.applied[0].stale
            assert steering.age_s >= 0.9
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            server.start()
            server.write("p", ZERO)
            until(lambda: not steering.stale, 20)
            until(lambda: not torch.equal(toy(images), steered))
            until(lambda: len(caplog.records) == 2)
            assert "fresh again" in caplog.records[1].message
        server.stale = True
        until(lambda: steering.stale)  # the server's own store is away


def test_a_model_whose_weights_differ_is_refused(toy: Toy, server: PolicyServer, client: MiclipClient) -> None:
    with torch.no_grad():
        toy.head.bias += 1e-3
    with pytest.raises(BadArtefact):
        attach(toy, "toy", client=client)
    attach(toy, "toy", client=client, verify_weights=False).close()


@torch.no_grad()
def test_where_the_server_comes_back_with_other_weights_its_policies_are_refused(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    server.write("p", MORE)
    with attach(toy, "toy", policy="p", client=client) as steering:
        steered, sha256 = toy(images), server.weights_sha256
        server.stop()
        server.weights_sha256 = "0" * 64
        server.start()
        until(lambda: raises(BadArtefact, lambda: toy(images)), 20)
        with steering.using(None):
            toy(images)
        server.stop()
        server.weights_sha256 = sha256
        server.start()
        until(lambda: not raises(BadArtefact, lambda: toy(images)), 20)
        assert torch.equal(toy(images), steered)


def raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


@torch.no_grad()
def test_a_policy_that_this_model_cannot_follow_is_an_error_where_it_is_used(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    server.write("features", [Edit("body/dictionaries/sae", 0, Op.SCALE, 0.0)])
    server.write("beyond", [Edit("body", UNITS, Op.SCALE, 0.0)])
    server.write("endless", [Edit("body", 0, Op.SCALE, 1e100)] * 4)
    with attach(toy, "toy", client=client) as steering:
        toy(images)
        for name, kind in (("features", NotFound), ("beyond", NotFound), ("endless", InvalidInput)):
            with steering.using([None, name, None, None]), pytest.raises(kind, match=f"policies/{name}"):
                toy(images)
        toy(images)


def test_closing_leaves_nothing_behind(toy: Toy, server: PolicyServer, client: MiclipClient) -> None:
    hooks = [(dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in toy.modules()]
    state = {name: tensor.clone() for name, tensor in toy.state_dict().items()}
    server.write("p", MORE)
    steering = attach(toy, "toy", policy="p", client=client)
    with pytest.raises(AlreadyExists):
        attach(toy, "toy", client=client)
    steering.close()
    steering.close()
    assert [(dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in toy.modules()] == hooks
    assert all(torch.equal(tensor, state[name]) for name, tensor in toy.state_dict().items())
    until(lambda: not [one for one in threading.enumerate() if one.name.startswith("miclip-")])
    attach(toy, "toy", client=client).close()


@torch.no_grad()
def test_a_pass_that_fails_leaves_the_next_one_as_it_was(
    toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient
) -> None:
    def fail() -> None:
        raise RuntimeError("mine")

    server.write("p", ZERO)
    with attach(toy, "toy", policy="p", client=client) as steering:
        steered = toy(images)
        toy.entered = fail
        with pytest.raises(RuntimeError, match="mine"):
            toy(images)
        toy.entered = lambda: None
        with steering.using(None):
            assert torch.equal(toy.body(toy.stem(images)), toy.body(toy.stem(images)))
        assert torch.equal(toy(images), steered)


@torch.no_grad()
def test_threads_each_have_their_own_rows(toy: Toy, images: Tensor, server: PolicyServer, client: MiclipClient) -> None:
    server.write("zero", ZERO)
    server.write("more", MORE)
    with attach(toy, "toy", client=client) as steering:

        def run(name: str | None) -> Tensor:
            with steering.using(name):
                return toy(images)

        alone = {name: run(name) for name in ("zero", "more", None)}
        with futures.ThreadPoolExecutor(6) as pool:
            many = [(name, pool.submit(run, name)) for _ in range(50) for name in alone]
        assert all(torch.equal(done.result(), alone[name]) for name, done in many)


def test_a_server_that_refuses_or_is_away_is_an_error_at_once(
    toy: Toy, server: PolicyServer, client: MiclipClient
) -> None:
    server.refusal = (grpc.StatusCode.PERMISSION_DENIED, "no")
    began = time.monotonic()
    with pytest.raises(PermissionDenied):
        attach(toy, "toy", client=client)
    assert time.monotonic() - began < 5
    server.refusal = (grpc.StatusCode.UNAVAILABLE, "later")
    with pytest.raises(NotReady):
        attach(toy, "toy", client=client, timeout_s=0.5)
    server.refusal = None
    attach(toy, "toy", client=client).close()


FORGETFUL = """
import sys
from collections import OrderedDict
from torch import nn
from miclip.attach import attach
from miclip.client import MiclipClient

model = nn.Sequential(OrderedDict(body=nn.Linear(6, 6)))
attach(model, "toy", client=MiclipClient(endpoint=sys.argv[1], api_key="k"), verify_weights=False)
print("attached")
"""


def test_a_program_that_never_closes_ends_all_the_same(server: PolicyServer) -> None:
    command = [sys.executable, "-c", FORGETFUL, server.endpoint]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "attached\n", "")


@pytest.mark.parametrize("wrapped", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_a_wrapper_that_hooks_do_not_reach_is_refused(
    toy: Toy, server: PolicyServer, client: MiclipClient, wrapped: Any
) -> None:
    with pytest.raises(InvalidInput):
        attach(wrapped(toy), "toy", client=client, verify_weights=False)
    with pytest.raises(NotFound):
        attach(nn.Linear(1, 1), "toy", client=client, verify_weights=False)
    with pytest.raises(InvalidInput):
        attach(toy, client=client)
