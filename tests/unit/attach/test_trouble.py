"""An attached model in trouble: no server, other weights, edits that do not fit, passes that fail; and its end."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import pytest
import torch
from torch import Tensor, nn

from miclip.attach import attach
from miclip.client import MiclipClient
from miclip.errors import (
    AlreadyExists,
    BadArtefact,
    InvalidInput,
    NotFound,
    NotReady,
    PermissionDenied,
)
from miclip.steering.edits import Edit, Op
from tests.unit.attach.toy import MORE, UNITS, ZERO, PolicyServer, Toy
from tests.waiting import wait_until


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
            wait_until(lambda: steering.stale)
            time.sleep(1.0)
            assert torch.equal(toy(images), steered)
            assert steering.applied[0].stale
            assert steering.age_s >= 0.9
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            server.start()
            server.write("p", ZERO)
            wait_until(lambda: not steering.stale, 20)
            wait_until(lambda: not torch.equal(toy(images), steered))
            wait_until(lambda: len(caplog.records) == 2)
            assert "fresh again" in caplog.records[1].message
        server.stale = True
        wait_until(lambda: steering.stale)  # the server's own store is away


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
        wait_until(lambda: raises(BadArtefact, lambda: toy(images)), 20)
        with steering.using(None):
            toy(images)
        server.stop()
        server.weights_sha256 = sha256
        server.start()
        wait_until(lambda: not raises(BadArtefact, lambda: toy(images)), 20)
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
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("miclip-")])
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
