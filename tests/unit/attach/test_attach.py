"""A model in this process, steered by what a server says: which rows, and when."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import Tensor

from miclip.attach import Steering, attach
from miclip.client import MiclipClient
from miclip.errors import (
    InvalidInput,
)
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import Policy
from tests.unit.attach.toy import MODEL, MORE, ZERO, PolicyServer, Toy, expected, outcomes
from tests.waiting import wait_until


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
            wait_until(lambda version=version: [one.version for one in steering.policies.values()] == [version])
            assert torch.allclose(toy(images), expected_unsteered(steering, toy, images, body), atol=1e-6)
        for model in ("", MODEL):
            server.set_stops(model)
            wait_until(lambda: steering.stopped)
            assert torch.equal(toy(images), plain)
            assert outcomes(steering) == ["stopped"] * 4
            server.set_stops()
            wait_until(lambda: not steering.stopped)
        server.set_stops("models/other")
        server.delete("p")
        wait_until(lambda: not steering.policies)
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
        wait_until(lambda: torch.equal(toy(images), plain))
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
            wait_until(lambda: not steering.policies)

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
