"""Watching policies: resumed where it broke, given up where it is silent, ended from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from miclip import errors
from miclip.client import MiclipClient
from miclip.v1 import steering_pb2 as pb


def stream(*tokens: str, ends: Any = None, heartbeat: float = 30.0) -> Any:
    """Answers with a heartbeat a token, then ends as told: a status, silence, or OK."""

    def answer(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for token in tokens:
            beat = pb.PolicyHeartbeat()
            yield pb.WatchPoliciesResponse(heartbeat=beat, resume_token=token, heartbeat_seconds=heartbeat)
        while ends == "silence" and context.is_active():
            time.sleep(0.01)
        if isinstance(ends, grpc.StatusCode):
            context.abort(ends, "rolling update")

    return answer


def asked(server: Any) -> list[tuple[str, str]]:
    return [(request.model, request.resume_token) for name, request, _ in server.calls if name == "WatchPolicies"]


@pytest.mark.parametrize("broken", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, None])
def test_a_broken_watch_goes_on_where_it_was(server: Any, run: Callable[..., Any], broken: Any) -> None:
    server.answers["WatchPolicies"] = server.in_turn(
        stream("a", "", ends=broken), stream("b", ends=broken), stream(ends=grpc.StatusCode.NOT_FOUND)
    )
    with pytest.raises(errors.NotFound):
        run("watch_policies", "m", resume_token="start")
    assert asked(server) == [("models/m", "start"), ("models/m", "a"), ("models/m", "b")]


def test_a_silent_stream_is_given_up_and_resumed(server: Any, run: Callable[..., Any]) -> None:
    server.answers["WatchPolicies"] = server.in_turn(
        stream("a", ends="silence", heartbeat=0.1), stream(ends=grpc.StatusCode.PERMISSION_DENIED)
    )
    began = time.monotonic()
    with pytest.raises(errors.PermissionDenied):
        run("watch_policies")
    assert time.monotonic() - began < 5
    assert asked(server) == [("", ""), ("", "a")]


def test_a_server_that_stays_away_is_given_up_after_the_attempts(run: Callable[..., Any]) -> None:
    with pytest.raises(errors.NotReady):
        run("watch_policies", options={"endpoint": "127.0.0.1:1", "attempts": 2})


def test_the_time_of_a_watch_ends_it(server: Any, run: Callable[..., Any]) -> None:
    server.answers["WatchPolicies"] = stream("a", ends="silence")
    with pytest.raises(errors.DeadlineExceeded):
        run("watch_policies", timeout_s=0.3)


def test_any_thread_may_end_a_watch_that_waits(server: Any) -> None:
    server.answers["WatchPolicies"] = stream("a", ends="silence")
    with MiclipClient(endpoint=server.endpoint, api_key="k") as client, client.watch_policies() as watch:
        assert next(watch).resume_token == "a"
        threading.Timer(0.1, watch.close).start()
        began = time.monotonic()
        assert list(watch) == []
        assert time.monotonic() - began < 2
        watch.close()
        assert watch.resume_token == "a"


@pytest.mark.parametrize("read_on", [True, False])
def test_a_watch_that_was_ended_leaves_no_thread(server: Any, read_on: bool) -> None:
    server.answers["WatchPolicies"] = stream("a", ends="silence")
    before = set(threading.enumerate())
    with MiclipClient(endpoint=server.endpoint, api_key="k") as client:
        watch = client.watch_policies()
        next(watch)
        (timer,) = (one for one in set(threading.enumerate()) - before if one.name == "miclip-silence-timer")
        watch.close()
        if read_on:
            assert list(watch) == []
    timer.join(5)
    assert not timer.is_alive()
