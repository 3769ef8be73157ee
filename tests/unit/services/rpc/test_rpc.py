"""The decorator stack around every RPC, without a server."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from miclip.errors import InvalidInput, NotReady, Overloaded, PermissionDenied
from miclip.settings import Settings, settings
from miclip.v1 import activation_pb2 as pb
from services.rpc import Call, Servicer, rpc
from services.rpc.auth import KeyRing
from services.rpc.observe import JsonFormatter
from services.rpc.register import Unreadable
from services.state.keys import KeyRecord, Scope, new_key

KEY, RECORD = new_key("test", [Scope.READ])


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store that is never reached: the keys come from the test."""
    monkeypatch.setenv("MICLIP_REDIS_URL", "unix:///tmp/no-such-miclip.sock")
    settings.cache_clear()
    yield
    settings.cache_clear()


class Context:
    """What Serve hands to a method."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.metadata = [("authorization", f"Bearer {KEY}"), *metadata]
        self.code: Any = None
        self.details = ""
        self.trailing: dict[str, Any] = {}

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self.metadata

    def set_code(self, code: Any) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = dict(metadata)

    def detail(self, kind: Any) -> Any:
        status = status_pb2.Status.FromString(self.trailing["grpc-status-details-bin"])
        assert (status.code, status.message) == (self.code.value[0], self.details)
        for packed in status.details:
            if packed.Unpack(kind):
                return kind
        raise AssertionError(f"no {type(kind)}")


class Toy(Servicer):
    application = "activation"
    descriptor = pb.DESCRIPTOR.services_by_name["ActivationService"]
    raises: Exception | None = None
    wait: asyncio.Event | None = None
    calls: tuple[Call, ...] = ()

    @rpc(Scope.READ)
    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        self.calls += (call,)
        if self.raises:
            raise self.raises
        if self.wait:
            await self.wait.wait()
        return pb.ListModelsResponse(next_page_token="done")

    @rpc(Scope.STEER)
    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        return pb.GetModelResponse()

    @rpc(Scope.READ)
    async def Predict(self, request: pb.PredictRequest, call: Call) -> Any:
        yield pb.PredictResponse(weights_sha256="1")
        raise ValueError("secret /path")


async def toy(**changes: Any) -> Toy:
    made = Toy.__new__(Toy)
    await Toy.__init__(made)
    made.settings = Settings(**changes)

    async def load() -> list[KeyRecord]:
        return [RECORD]

    made.keys = KeyRing(load)
    return made


async def test_a_good_call_carries_its_request_id_and_who_called() -> None:
    servicer, context = await toy(), Context(("request_id", "abc-1"))
    answer = await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)
    assert (answer.next_page_token, context.code) == ("done", None)
    call = servicer.calls[0]
    assert (call.request_id, call.principal.key_id, call.external) == ("abc-1", RECORD.key_id, True)


async def test_an_unknown_exception_becomes_a_fixed_text_and_is_logged() -> None:
    servicer, context, records = await toy(), Context(("request_id", "abc-2")), []
    servicer.raises = ValueError("secret /path")

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(JsonFormatter().format(record))

    handler = Keep()
    logging.getLogger("miclip").addHandler(handler)
    answer = await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)
    assert answer == pb.ListModelsResponse()
    assert context.code is grpc.StatusCode.INTERNAL
    assert context.details == "Internal error. The server's log has the details under request id abc-2."
    logging.getLogger("miclip").removeHandler(handler)
    assert any("secret /path" in record and "abc-2" in record for record in records)
    assert not any(KEY in record for record in records)


async def test_an_error_of_ours_carries_field_range_and_request_id() -> None:
    servicer, context = await toy(), Context(("request_id", "abc-3"))
    servicer.raises = InvalidInput("top_k is 0; allowed is 1 to 9.", field="top_k", allowed="1 to 9")
    await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    info = context.detail(error_details_pb2.ErrorInfo())
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "INVALID_INPUT",
        "miclip.dev",
        {"field": "top_k", "allowed": "1 to 9"},
    )
    violation = context.detail(error_details_pb2.BadRequest()).field_violations[0]
    assert (violation.field, violation.description) == ("top_k", context.details)
    assert context.detail(error_details_pb2.RequestInfo()).request_id == "abc-3"


async def test_a_full_service_refuses_with_a_time_to_retry_and_recovers() -> None:
    servicer = await toy(max_queued=2)
    servicer.wait = asyncio.Event()
    waiting = [
        asyncio.create_task(servicer.ListModels(pb.ListModelsRequest(), grpc_context=Context())) for _ in range(2)
    ]
    await asyncio.sleep(0.01)
    context = Context()
    await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)
    assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert context.detail(error_details_pb2.RetryInfo()).retry_delay.seconds == 1
    servicer.wait.set()
    assert [answer.next_page_token for answer in await asyncio.gather(*waiting)] == ["done", "done"]
    context = Context()
    await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)
    assert context.code is None


async def test_open_streams_keep_no_request_out_and_no_more_of_them_in() -> None:
    servicer = await toy(max_queued=1)
    stream = servicer.Predict(pb.PredictRequest(), grpc_context=Context())
    assert (await anext(stream)).weights_sha256 == "1"
    context, second = Context(), Context()
    assert (await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)).next_page_token == "done"
    assert [message async for message in servicer.Predict(pb.PredictRequest(), grpc_context=second)] == []
    assert (context.code, second.code) == (None, grpc.StatusCode.RESOURCE_EXHAUSTED)
    await stream.aclose()


async def test_a_call_that_takes_too_long_is_ended() -> None:
    servicer, context = await toy(request_timeout_s=0.05), Context()
    servicer.wait = asyncio.Event()
    await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_cancelled_call_is_cancelled_and_leaves_its_place() -> None:
    servicer = await toy(max_queued=1)
    servicer.wait = asyncio.Event()
    task = asyncio.create_task(servicer.ListModels(pb.ListModelsRequest(), grpc_context=Context()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    servicer.wait.set()
    context = Context()
    await servicer.ListModels(pb.ListModelsRequest(), grpc_context=context)
    assert context.code is None


async def test_a_stream_that_breaks_ends_with_a_status() -> None:
    servicer, context = await toy(), Context()
    sent = [message async for message in servicer.Predict(pb.PredictRequest(), grpc_context=context)]
    assert [message.weights_sha256 for message in sent] == ["1"]
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in context.details


async def test_scopes_are_checked_before_the_method_runs() -> None:
    servicer, context = await toy(), Context()
    await servicer.GetModel(pb.GetModelRequest(), grpc_context=context)
    assert context.code is grpc.StatusCode.PERMISSION_DENIED
    assert context.detail(error_details_pb2.ErrorInfo()).reason == PermissionDenied.reason


async def test_another_service_calls_without_a_key_and_gets_errors_as_values() -> None:
    servicer = await toy()
    assert (await servicer.ListModels(pb.ListModelsRequest())).next_page_token == "done"
    assert not servicer.calls[0].external
    servicer.raises = Overloaded("full")
    answer = await servicer.ListModels(pb.ListModelsRequest())
    assert isinstance(answer, Overloaded)
    assert answer.__traceback__ is None  # it is pickled on its way


async def test_a_hostile_request_id_is_replaced() -> None:
    servicer = await toy()
    for given in ("", "a b", "x" * 129, "a\nb", "<script>"):
        await servicer.ListModels(pb.ListModelsRequest(), grpc_context=Context(("request_id", given)))
    assert all(len(call.request_id) == 32 for call in servicer.calls)


async def test_rpcs_of_other_services_are_refused_with_their_home() -> None:
    servicer, context = await toy(), Context()
    await servicer.DescribeUnits(None, grpc_context=context)  # type: ignore[attr-defined]
    assert context.code is grpc.StatusCode.UNIMPLEMENTED
    assert "'retrieval'" in context.details
    context = Context()
    assert [m async for m in servicer.WatchAlignment(None, grpc_context=context)] == []  # type: ignore[attr-defined]
    assert context.code is grpc.StatusCode.UNIMPLEMENTED


async def test_known_keys_go_on_working_without_the_store() -> None:
    answers: list[Any] = [[RECORD], NotReady("gone")]

    async def load() -> list[KeyRecord]:
        answer = answers[0] if len(answers) == 1 else answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ring = KeyRing(load, refresh_s=0)
    for _ in range(3):
        assert (await ring.authenticate(Context().metadata, Scope.READ)).key_id == RECORD.key_id


async def test_a_silent_store_does_not_hold_up_calls_with_known_keys() -> None:
    calls = 0

    async def load() -> list[KeyRecord]:
        nonlocal calls
        calls += 1
        if calls > 1:
            await asyncio.sleep(60)
        return [RECORD]

    ring = KeyRing(load, refresh_s=0)
    await ring.authenticate(Context().metadata, Scope.READ)
    async with asyncio.timeout(2):
        await ring.authenticate(Context().metadata, Scope.READ)


async def test_a_new_key_works_at_once_even_while_an_older_reading_is_under_way() -> None:
    key, record = new_key("new", [Scope.READ])
    stored = [RECORD]

    async def load() -> list[KeyRecord]:
        seen = list(stored)
        await asyncio.sleep(0.1)
        return seen

    ring = KeyRing(load, refresh_s=0)
    await ring.preload()
    older = asyncio.create_task(ring.authenticate(Context().metadata, Scope.READ))
    await asyncio.sleep(0.05)  # its reading has begun without the new key
    stored.append(record)
    caller = await ring.authenticate([("authorization", f"Bearer {key}")], Scope.READ)
    assert caller.key_id == record.key_id
    await older


async def test_an_unknown_key_is_unavailable_and_not_invalid_while_the_store_is_away() -> None:
    answers: list[Any] = [[RECORD]]

    async def load() -> list[KeyRecord]:
        if not answers:
            raise NotReady("gone")
        return answers.pop()  # type: ignore[no-any-return]

    ring = KeyRing(load)
    await ring.preload()
    with pytest.raises(NotReady):
        await ring.authenticate([("authorization", "Bearer unheard-of")], Scope.READ)


async def test_without_a_store_and_keys_nobody_is_let_in() -> None:
    async def load() -> list[KeyRecord]:
        raise NotReady("gone")

    with pytest.raises(NotReady):
        await KeyRing(load).authenticate(Context().metadata, Scope.READ)


async def test_a_message_that_cannot_be_read_is_the_clients_fault_and_answered_after_the_key() -> None:
    servicer, context, stranger = await toy(), Context(), Context()
    stranger.metadata = []
    for each in (context, stranger):
        await servicer.ListModels(Unreadable("ListModels"), grpc_context=each)  # type: ignore[arg-type]
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "UTF-8" in context.details
    assert stranger.code is grpc.StatusCode.UNAUTHENTICATED
    assert not servicer.calls


async def test_a_key_sent_as_the_request_id_goes_no_further() -> None:
    servicer = await toy()
    await servicer.ListModels(pb.ListModelsRequest(), grpc_context=Context(("request_id", KEY)))
    assert KEY not in servicer.calls[0].request_id


def test_log_lines_pass_a_redirected_stderr_as_they_are() -> None:
    code = (
        "import io, sys\n"
        "sys.stderr = io.StringIO()\n"  # as Serve does in a replica
        "from services.rpc.observe import setup_logging\n"
        "setup_logging('miclip').info('call', extra={'fields': {'request_id': 'r-1'}})\n"
        "assert not sys.stderr.getvalue()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    line = json.loads(done.stderr)
    assert (line["message"], line["request_id"]) == ("call", "r-1")
