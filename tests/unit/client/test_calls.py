"""How calls are made: key, deadline, attempts, errors, streams, options."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from miclip import errors
from miclip.client import AsyncMiclipClient, MiclipClient, Options, make_policy
from miclip.settings import settings
from miclip.v1 import (
    activation_pb2,
    aligner_pb2,
)

MODEL = activation_pb2.GetModelResponse(model=activation_pb2.Model(name="models/m", labels=["cat", "dog"]))


def test_a_call_carries_key_and_request_id(server: Any, run: Callable[..., Any]) -> None:
    server.answers["GetModel"] = server.always(MODEL)
    assert list(run("get_model", "m", options={"api_key": "s3cret"}).labels) == ["cat", "dog"]
    run("get_model", "models/m", options={"request_id": "mine"})
    (_, first, one), (_, second, two) = server.calls
    assert one["authorization"] == "Bearer s3cret"
    assert len(one["request_id"]) == 32
    assert two["request_id"] == "mine"
    assert first.name == second.name == "models/m"


def test_a_call_is_made_again_while_the_server_is_unavailable(server: Any, run: Callable[..., Any]) -> None:
    down = server.refuse(grpc.StatusCode.UNAVAILABLE)
    server.answers["GetModel"] = server.in_turn(down, down, server.always(MODEL))
    assert run("get_model", "m").name == "models/m"
    assert server.count("GetModel") == 3
    assert len({metadata["request_id"] for _, _, metadata in server.calls}) == 1


def test_attempts_end(server: Any, run: Callable[..., Any]) -> None:
    server.answers["GetModel"] = server.refuse(grpc.StatusCode.UNAVAILABLE, "gone")
    with pytest.raises(errors.NotReady, match="gone"):
        run("get_model", "m", options={"attempts": 3})
    assert server.count("GetModel") == 3


def test_retries_never_pass_the_deadline(server: Any, run: Callable[..., Any]) -> None:
    server.answers["GetModel"] = server.refuse(grpc.StatusCode.UNAVAILABLE)
    started = time.monotonic()
    with pytest.raises(errors.NotReady):
        run("get_model", "m", options={"attempts": 1000, "timeout_s": 0.6})
    assert time.monotonic() - started < 0.9
    assert server.count("GetModel") >= 2


def test_a_slow_answer_is_a_deadline_error(server: Any, run: Callable[..., Any]) -> None:
    release = threading.Event()
    server.answers["GetModel"] = lambda request, context: release.wait(10) and MODEL
    started = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        run("get_model", "m", options={"timeout_s": 0.3})
    assert time.monotonic() - started < 2
    release.set()


@pytest.mark.parametrize(
    ("method", "arguments", "rpc"),
    [
        ("create_policy", ("p", make_policy(model="m", edits=[])), "CreatePolicy"),
        ("update_policy", (make_policy(model="m", edits=[]),), "UpdatePolicy"),
        ("delete_policy", ("p",), "DeletePolicy"),
        ("create_alignment", ("m",), "CreateAlignment"),
        ("create_vocabulary", ("v", ["a"]), "CreateVocabulary"),
    ],
)
def test_what_must_not_happen_twice_is_not_made_again(
    server: Any, run: Callable[..., Any], method: str, arguments: tuple[Any, ...], rpc: str
) -> None:
    server.answers[rpc] = server.refuse(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(errors.NotReady):
        run(method, *arguments)
    assert server.count(rpc) == 1


@pytest.mark.parametrize(
    "kind",
    [
        errors.InvalidInput,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.NotFound,
        errors.NotAligned,
        errors.BadArtefact,
        errors.AlreadyExists,
        errors.Conflict,
        errors.Overloaded,
        errors.TooLarge,
        errors.DeadlineExceeded,
        errors.Internal,
    ],
)
def test_the_servers_error_arrives_as_the_same_class_with_its_field_and_range(
    server: Any, run: Callable[..., Any], kind: type[errors.MiclipError]
) -> None:
    status = server.detailed(kind.reason, "top_k: 0 is out of range.", field="top_k", allowed="1 to 9", retry_s=2.5)
    server.answers["GetModel"] = server.refuse(grpc.StatusCode[kind.status], status.message, status)
    with pytest.raises(kind) as caught:
        run("get_model", "m", options={"request_id": "r1"})
    error = caught.value
    assert type(error) is kind
    assert (error.message, error.field, error.allowed) == ("top_k: 0 is out of range.", "top_k", "1 to 9")
    assert error.__notes__ == ["request id r1"]
    assert getattr(error, "retry_after", 2.5) == 2.5
    assert server.count("GetModel") == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Internal),
    ],
)
def test_a_failure_without_details_is_the_nearest_error(
    server: Any, run: Callable[..., Any], code: grpc.StatusCode, kind: type[errors.MiclipError]
) -> None:
    for status in (
        None,
        server.detailed("NOT_FOUND", "x", domain="elsewhere.example"),
        server.detailed("UNHEARD_OF", "x"),
    ):
        server.answers["GetModel"] = server.refuse(code, "from a proxy", status)
        with pytest.raises(kind, match="from a proxy") as caught:
            run("get_model", "m")
        assert type(caught.value) is kind


def test_a_message_over_the_limit_is_too_large_and_says_what_to_do(server: Any, run: Callable[..., Any]) -> None:
    with pytest.raises(errors.TooLarge, match="Send less"):
        run("embed_images", [bytes(settings().max_message_bytes + 1)])


def test_nobody_there_is_unreachable_and_the_reason_is_said(run: Callable[..., Any]) -> None:
    with pytest.raises(errors.Unreachable, match=r"^The server at 127.0.0.1:1 cannot be reached: Connection refused\."):
        run("get_model", "m", options={"endpoint": "127.0.0.1:1", "attempts": 2})


def test_what_a_server_cannot_do_now_is_not_taken_for_its_absence(server: Any, run: Callable[..., Any]) -> None:
    status = server.detailed("NOT_READY", "The state store cannot be reached.")
    server.answers["GetModel"] = server.refuse(grpc.StatusCode.UNAVAILABLE, "x", status)
    with pytest.raises(errors.NotReady, match="state store") as caught:
        run("get_model", "m", options={"attempts": 1})
    assert not isinstance(caught.value, errors.Unreachable)


@pytest.mark.parametrize("value", ["kéy", "a\nb", "a b", "\x00"])
def test_a_key_that_cannot_be_sent_is_refused_before(value: str) -> None:
    with pytest.raises(errors.Unauthenticated, match="characters") as caught:
        Options(endpoint="127.0.0.1:1", api_key=value)
    assert value not in str(caught.value)
    with pytest.raises(errors.InvalidInput, match="request_id"):
        Options(endpoint="127.0.0.1:1", request_id=value)


def test_a_broken_watch_is_opened_again_and_ends_with_the_alignment(server: Any, run: Callable[..., Any]) -> None:
    def stream(*done: int, ended: bool = False, broken: bool = False) -> Any:
        def answer(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            for step in done:
                state = aligner_pb2.ALIGNMENT_STATE_RUNNING
                if ended and step == done[-1]:
                    state = aligner_pb2.ALIGNMENT_STATE_FAILED
                yield aligner_pb2.WatchAlignmentResponse(alignment=aligner_pb2.Alignment(done=step, state=state))
            if broken:
                context.abort(grpc.StatusCode.UNAVAILABLE, "rolling update")
            while ended:  # a server that does not hang up: the client must
                if not context.is_active():
                    return
                time.sleep(0.01)

        return answer

    server.answers["WatchAlignment"] = server.in_turn(stream(1, broken=True), stream(1, 2), stream(3, 4, ended=True))
    assert [one.done for one in run("watch_alignment", "a")] == [1, 1, 2, 3, 4]


def test_a_watch_of_nothing_is_not_found(server: Any, run: Callable[..., Any]) -> None:
    server.answers["WatchAlignment"] = server.refuse(grpc.StatusCode.NOT_FOUND, "no such alignment")
    with pytest.raises(errors.NotFound, match="no such alignment"):
        run("watch_alignment", "a")
    assert server.count("WatchAlignment") == 1


def test_endpoint_and_key_are_found_where_serve_left_them(server: Any, state_dir: Path) -> None:
    (state_dir / "server.json").write_text(f'{{"grpc": "{server.endpoint}"}}')
    (state_dir / "api_key").write_text("from-file\n")
    server.answers["GetModel"] = server.always(MODEL)
    with MiclipClient() as client:
        client.get_model("m")
    assert server.calls[0][2]["authorization"] == "Bearer from-file"


def test_the_keys_order_is_argument_environment_file(
    server: Any, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state_dir / "api_key").write_text("from-file")
    monkeypatch.setenv("MICLIP_API_KEY", "from-environment")
    settings.cache_clear()
    assert Options(endpoint="e", api_key="given").resolved().api_key == "given"
    assert Options(endpoint="e").resolved().api_key == "from-environment"


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [
        ("127.0.0.1:9000", "local"),
        ("localhost:9000", "local"),
        ("http://[::1]:9000", "local"),
        ("miclip.example:9000", ""),
        ("https://miclip.example:443", ""),
        ("127.0.0.1.miclip.example:9000", ""),
    ],
)
def test_the_local_servers_key_goes_to_no_other_machine(endpoint: str, key: str, state_dir: Path) -> None:
    (state_dir / "api_key").write_text("local")
    assert Options(endpoint=endpoint).resolved().api_key == key


def test_the_endpoints_order_is_argument_environment_file(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state_dir / "server.json").write_text('{"grpc": "from-file:1"}')
    assert Options().resolved().endpoint == "from-file:1"
    monkeypatch.setenv("MICLIP_ENDPOINT", "from-environment:1")
    settings.cache_clear()
    assert Options().resolved().endpoint == "from-environment:1"
    assert Options(endpoint="given:1").resolved().endpoint == "given:1"


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"grpc": 7}', "{"])
def test_without_a_server_the_error_says_how_to_start_one(state_dir: Path, content: str | None) -> None:
    if content is not None:
        (state_dir / "server.json").write_text(content)
    with pytest.raises(errors.NotReady, match="miclip serve"):
        MiclipClient()


def test_a_closed_client_says_that_it_is_closed() -> None:
    blocking = MiclipClient(endpoint="127.0.0.1:1")
    view = blocking.with_options(attempts=1)
    blocking.close()
    for client in (blocking, view):
        with pytest.raises(errors.InvalidInput, match="closed"):
            client.get_model("m")


async def test_a_closed_asyncio_client_says_that_it_is_closed() -> None:
    async with AsyncMiclipClient(endpoint="127.0.0.1:1") as client:
        pass
    with pytest.raises(errors.InvalidInput, match="closed"):
        await client.get_model("m")


def test_the_key_is_in_no_representation() -> None:
    assert "s3cret" not in repr(Options(endpoint="e", api_key="s3cret"))


def test_a_view_shares_the_connection_and_changes_only_itself(server: Any) -> None:
    server.answers["GetModel"] = server.refuse(grpc.StatusCode.UNAVAILABLE)
    with MiclipClient(endpoint=server.endpoint, api_key="k") as client:
        with pytest.raises(errors.NotReady):
            client.with_options(attempts=1).get_model("m")
        assert client.options.attempts == 5
        with pytest.raises(errors.InvalidInput):
            client.with_options(endpoint="elsewhere:1")
    assert server.count("GetModel") == 1


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"attempts": 0}])
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput):
        Options(endpoint="e", **options)
