"""Watching the policies of a running server: what is told, to whom, how soon; and nothing is left behind."""

from __future__ import annotations

import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from miclip.client import MiclipClient, make_policy
from miclip.steering.changes import PolicyChange
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import Policy
from tests.names import RESNET as MODEL
from tests.waiting import wait_until

SOON_S = 2.0


@pytest.fixture
def client(server: Any) -> Iterator[MiclipClient]:
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.api_key) as connected:
        yield connected


@pytest.fixture
def reader(server: Any) -> Iterator[MiclipClient]:
    """A client that may only read."""
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.read_key) as connected:
        yield connected


@pytest.fixture
def new_id() -> str:
    return f"w-{uuid.uuid4().hex[:10]}"


def edited(unit: int, **conditions: Any) -> Policy:
    return make_policy(model=MODEL, edits=[Edit("layer4", unit, Op.SCALE, 0.0)], **conditions)


def told(watch: Any, wanted: Callable[[PolicyChange], bool]) -> PolicyChange:
    """The first change that is wanted; others may come from other tests' leavings."""
    began = time.monotonic()
    for message in watch:
        assert time.monotonic() - began < SOON_S, "not told in time"
        if message.change and wanted(message.change):
            return message.change
    raise AssertionError("the stream ended")


def test_who_watches_hears_of_every_change_within_seconds(
    client: MiclipClient, reader: MiclipClient, new_id: str
) -> None:
    with reader.watch_policies(MODEL, timeout_s=60) as watch:
        first = next(watch)
        assert first.snapshot and first.snapshot.last
        assert new_id not in [policy.policy_id for policy in first.snapshot.policies]
        made = client.create_policy(new_id, edited(3))
        change = told(watch, lambda change: change.policy_id == new_id)
        assert (change.kind, change.policy) == ("created", made)
        newer = client.update_policy(made.replaced(traffic_share=0.5))
        change = told(watch, lambda change: change.policy_id == new_id)
        assert (change.kind, change.policy) == ("updated", newer)
        client.stop_steering("a test", model=MODEL)
        change = told(watch, lambda change: not change.policy_id)
        assert change.stop
        assert (change.kind, change.model, change.stop.reason) == ("stopped", MODEL, "a test")
        client.resume_steering("a test", model=MODEL)
        assert told(watch, lambda change: not change.policy_id).kind == "resumed"
        token = watch.resume_token
    client.delete_policy(new_id)
    with reader.watch_policies(MODEL, resume_token=token, timeout_s=60) as resumed:
        change = next(resumed).change
        assert change
        assert (change.kind, change.policy_id) == ("deleted", new_id)


def test_a_policy_that_ends_is_told_and_a_quiet_stream_beats(client: MiclipClient, new_id: str) -> None:
    with client.watch_policies(MODEL, timeout_s=60) as watch:
        next(watch)
        client.create_policy(new_id, edited(4, ttl_seconds=1))
        kinds = [told(watch, lambda change: change.policy_id == new_id).kind for _ in range(2)]
        assert kinds == ["created", "expired"]
        message = next(message for message in watch if message.event == "heartbeat")
        assert (message.heartbeat_seconds, message.stale, bool(message.resume_token)) == (1.0, False, True)


def test_a_client_that_goes_leaves_no_stream_behind(server: Any, client: MiclipClient) -> None:
    watches = [client.watch_policies() for _ in range(5)]
    for watch in watches:
        next(watch)
    wait_until(lambda: open_streams(server) == 5)
    watches.pop().close()
    wait_until(lambda: open_streams(server) == 4)
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.read_key) as going:
        next(going.watch_policies())
        wait_until(lambda: open_streams(server) == 5)
    wait_until(lambda: open_streams(server) == 4)  # its connection was closed under the stream
    for watch in watches:
        watch.close()
    wait_until(lambda: open_streams(server) == 0)


def open_streams(server: Any) -> float:
    with urllib.request.urlopen(f"http://{server.metrics_endpoint}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("miclip_policy_watchers{"))
