"""The client against a real gRPC server, whose answers each test chooses."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from miclip import errors
from miclip.client import AsyncMiclipClient, MiclipClient, Options, make_policy
from miclip.settings import settings
from miclip.v1 import (
    activation_pb2,
    activation_pb2_grpc,
    aligner_pb2,
    aligner_pb2_grpc,
    resources_pb2,
    retrieval_pb2,
    retrieval_pb2_grpc,
    steering_pb2,
    steering_pb2_grpc,
)

Answer = Callable[[Any, grpc.ServicerContext], Any]


class Server:
    """A gRPC server with every RPC of the four services; ``answers`` maps RPC names to functions."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, Any, dict[str, str]]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        for module, service in (
            (activation_pb2_grpc, "ActivationService"),
            (aligner_pb2_grpc, "AlignerService"),
            (retrieval_pb2_grpc, "RetrievalService"),
            (steering_pb2_grpc, "SteeringService"),
            (health_pb2_grpc, "Health"),
        ):
            base = getattr(module, f"{service}Servicer")
            names = [name for name in vars(base) if not name.startswith("_")]
            servicer = type(service, (base,), {name: self._method(name) for name in names})()
            getattr(module, f"add_{service}Servicer_to_server")(servicer, self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _method(self, name: str) -> Any:
        def method(_: Any, request: Any, context: grpc.ServicerContext) -> Any:
            self.calls.append((name, request, dict(context.invocation_metadata())))
            return self.answers[name](request, context)

        return method

    def count(self, name: str) -> int:
        return sum(called == name for called, _, _ in self.calls)

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture(params=["blocking", "asyncio"])
def run(request: pytest.FixtureRequest, server: Server) -> Callable[..., Any]:
    """Calls one method of either client: ``run("predict", [...], model=..., options={...})``."""

    def blocking(name: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        with MiclipClient(**{"endpoint": server.endpoint, "api_key": "k", **(options or {})}) as client:
            result = getattr(client, name)(*args, **kwargs)
            return list(result) if name.startswith("watch") else result

    async def awaited(name: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        async with AsyncMiclipClient(**{"endpoint": server.endpoint, "api_key": "k", **(options or {})}) as client:
            result = getattr(client, name)(*args, **kwargs)
            return [one async for one in result] if name.startswith("watch") else await result

    return blocking if request.param == "blocking" else lambda *a, **k: asyncio.run(awaited(*a, **k))


def refuse(code: grpc.StatusCode, text: str = "no", status: status_pb2.Status | None = None) -> Answer:
    def answer(_: Any, context: grpc.ServicerContext) -> Any:
        if status is not None:
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(code, text)

    return answer


def in_turn(*answers: Answer) -> Answer:
    left = iter(answers)

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        return next(left)(request, context)

    return answer


def always(response: Any) -> Answer:
    return lambda request, context: response


def detailed(reason: str, text: str, *, domain: str = errors.DOMAIN, retry_s: float = 0.0, **metadata: str) -> Any:
    status = status_pb2.Status(message=text)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    if retry_s:
        delay = Duration()
        delay.FromNanoseconds(int(retry_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


MODEL = activation_pb2.GetModelResponse(model=activation_pb2.Model(name="models/m", labels=["cat", "dog"]))


def test_both_clients_have_the_same_methods_and_parameters() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
        return {name: list(inspect.signature(value).parameters) for name, value in public.items()}

    assert surface(MiclipClient) == surface(AsyncMiclipClient)


def test_every_rpc_of_the_protos_is_reached_by_some_method(server: Server, tmp_path: Path) -> None:
    protos = (activation_pb2, aligner_pb2, retrieval_pb2, steering_pb2)
    services = [service for module in protos for service in module.DESCRIPTOR.services_by_name.values()]
    ended = aligner_pb2.Alignment(state=aligner_pb2.ALIGNMENT_STATE_SUCCEEDED)
    for service in services:
        for method in service.methods:
            server.answers[method.name] = always(method.output_type._concrete_class())
    server.answers["WatchAlignment"] = always(iter([aligner_pb2.WatchAlignmentResponse(alignment=ended)]))
    image, policy = b"x", make_policy(model="m", concept="dog", scale=2.0)
    with MiclipClient(endpoint=server.endpoint, api_key="k") as client:
        client.list_models(), client.get_model("m"), client.predict([image], model="m")
        server.answers["CaptureActivations"] = refuse(grpc.StatusCode.NOT_FOUND)
        with pytest.raises(errors.NotFound):
            client.capture([image], model="m", layers=["l"])
        client.embed_units(["u"]), client.embed_texts(["t"]), client.embed_images([image])
        client.create_alignment("m"), client.get_alignment("a"), client.list_alignments(), client.cancel_alignment("a")
        list(client.watch_alignment("a"))
        client.list_atlases(), client.get_atlas("a"), client.activate_atlas("a")
        client.describe(["u"]), client.localize("dog", model="m"), client.get_unit("u"), client.list_units("l")
        client.create_vocabulary("v", ["a"]), client.list_vocabularies(), client.delete_vocabulary("v")
        client.create_policy("p", policy), client.get_policy("p"), client.list_policies(), client.update_policy(policy)
        client.delete_policy("p"), client.preview_policy("p"), client.stop_steering("r"), client.resume_steering("r")
    assert {name for name, _, _ in server.calls} == {method.name for service in services for method in service.methods}
    for name, _, metadata in server.calls:
        application = next(
            s.name.removesuffix("Service").lower() for s in services if name in [method.name for method in s.methods]
        )
        assert metadata["application"] == application


def test_a_call_carries_key_and_request_id(server: Server, run: Callable[..., Any]) -> None:
    server.answers["GetModel"] = always(MODEL)
    assert list(run("get_model", "m", options={"api_key": "s3cret"}).labels) == ["cat", "dog"]
    run("get_model", "models/m", options={"request_id": "mine"})
    (_, first, one), (_, second, two) = server.calls
    assert one["authorization"] == "Bearer s3cret"
    assert len(one["request_id"]) == 32
    assert two["request_id"] == "mine"
    assert first.name == second.name == "models/m"


def test_a_call_is_made_again_while_the_server_is_unavailable(server: Server, run: Callable[..., Any]) -> None:
    down = refuse(grpc.StatusCode.UNAVAILABLE)
    server.answers["GetModel"] = in_turn(down, down, always(MODEL))
    assert run("get_model", "m").name == "models/m"
    assert server.count("GetModel") == 3
    assert len({metadata["request_id"] for _, _, metadata in server.calls}) == 1


def test_attempts_end(server: Server, run: Callable[..., Any]) -> None:
    server.answers["GetModel"] = refuse(grpc.StatusCode.UNAVAILABLE, "gone")
    with pytest.raises(errors.NotReady, match="gone"):
        run("get_model", "m", options={"attempts": 3})
    assert server.count("GetModel") == 3


def test_retries_never_pass_the_deadline(server: Server, run: Callable[..., Any]) -> None:
    server.answers["GetModel"] = refuse(grpc.StatusCode.UNAVAILABLE)
    started = time.monotonic()
    with pytest.raises(errors.NotReady):
        run("get_model", "m", options={"attempts": 1000, "timeout_s": 0.6})
    assert time.monotonic() - started < 0.9
    assert server.count("GetModel") >= 2


def test_a_slow_answer_is_a_deadline_error(server: Server, run: Callable[..., Any]) -> None:
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
        ("update_policy", (steering_pb2.Policy(),), "UpdatePolicy"),
        ("delete_policy", ("p",), "DeletePolicy"),
        ("create_alignment", ("m",), "CreateAlignment"),
        ("create_vocabulary", ("v", ["a"]), "CreateVocabulary"),
    ],
)
def test_what_must_not_happen_twice_is_not_made_again(
    server: Server, run: Callable[..., Any], method: str, arguments: tuple[Any, ...], rpc: str
) -> None:
    server.answers[rpc] = refuse(grpc.StatusCode.UNAVAILABLE)
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
    server: Server, run: Callable[..., Any], kind: type[errors.MiclipError]
) -> None:
    status = detailed(kind.reason, "top_k: 0 is out of range.", field="top_k", allowed="1 to 9", retry_s=2.5)
    server.answers["GetModel"] = refuse(grpc.StatusCode[kind.status], status.message, status)
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
    server: Server, run: Callable[..., Any], code: grpc.StatusCode, kind: type[errors.MiclipError]
) -> None:
    for status in (None, detailed("NOT_FOUND", "x", domain="elsewhere.example"), detailed("UNHEARD_OF", "x")):
        server.answers["GetModel"] = refuse(code, "from a proxy", status)
        with pytest.raises(kind, match="from a proxy") as caught:
            run("get_model", "m")
        assert type(caught.value) is kind


def test_a_message_over_the_limit_is_too_large_and_says_what_to_do(server: Server, run: Callable[..., Any]) -> None:
    with pytest.raises(errors.TooLarge, match="Send less"):
        run("embed_images", [bytes(settings().max_message_bytes + 1)])


def test_nobody_there_is_not_ready(run: Callable[..., Any]) -> None:
    with pytest.raises(errors.NotReady):
        run("get_model", "m", options={"endpoint": "127.0.0.1:1", "attempts": 2})


def test_lists_follow_every_page(server: Server, run: Callable[..., Any]) -> None:
    def page(request: retrieval_pb2.ListUnitsRequest, _: Any) -> retrieval_pb2.ListUnitsResponse:
        start = int(request.page_token or 0)
        units = [retrieval_pb2.Unit(name=f"u{start + i}") for i in range(2)]
        return retrieval_pb2.ListUnitsResponse(units=units, next_page_token=str(start + 2) if start < 4 else "")

    server.answers["ListUnits"] = page
    assert [unit.name for unit in run("list_units", "models/m/layers/l")] == [f"u{i}" for i in range(6)]


def test_a_layer_is_described_in_requests_within_the_limit(server: Server, run: Callable[..., Any]) -> None:
    def describe(request: retrieval_pb2.DescribeUnitsRequest, _: Any) -> retrieval_pb2.DescribeUnitsResponse:
        concept = resources_pb2.LabeledConcept(concept="dog", index=3, score=0.5)
        descriptions = [
            retrieval_pb2.UnitDescription(unit=unit, concepts=[concept], abstained=True, embedding=2)
            for unit in request.units
        ]
        timings = [resources_pb2.Timing(stage="search", seconds=1.0)]
        return retrieval_pb2.DescribeUnitsResponse(descriptions=descriptions, timings=timings)

    units = settings().max_units + 7
    server.answers["ListUnits"] = always(retrieval_pb2.ListUnitsResponse(total_size=units))
    server.answers["DescribeUnits"] = describe
    result = run("describe", layer="models/m/layers/l", concepts=["dog"], top_k=1)
    assert [one.unit for one in result.descriptions] == [f"models/m/layers/l/units/{i}" for i in range(units)]
    assert result.descriptions[0].concepts[0].text == "dog"
    assert (result.descriptions[0].abstained, result.descriptions[0].embedding) == (True, "pattern")
    assert result.timings == {"search": 2.0}
    assert [len(request.units) for name, request, _ in server.calls if name == "DescribeUnits"] == [units - 7, 7]


def test_activations_are_one_array_a_layer(server: Server, run: Callable[..., Any]) -> None:
    def image(start: float) -> activation_pb2.ImageActivations:
        layers = [
            activation_pb2.LayerActivations(layer="models/m/layers/a", values=[start, start + 1]),
            activation_pb2.LayerActivations(layer="models/m/layers/b", values=[start]),
        ]
        return activation_pb2.ImageActivations(layers=layers)

    response = activation_pb2.CaptureActivationsResponse(results=[image(0), image(5), image(9)])
    server.answers["CaptureActivations"] = always(response)
    result = run("capture", [b"1", b"2", b"3"], model="m", layers=["a", "b"])
    np.testing.assert_array_equal(result.activations["models/m/layers/a"], np.float32([[0, 1], [5, 6], [9, 10]]))
    assert result.activations["models/m/layers/b"].shape == (3, 1)
    assert result.strongest == {}


def test_edits_of_the_library_are_sent_under_the_full_name_of_their_layer(
    server: Server, run: Callable[..., Any], tmp_path: Path
) -> None:
    from miclip.steering.edits import Edit, Op

    (tmp_path / "a.png").write_bytes(b"pixels")
    steering = activation_pb2.AppliedSteering(outcome=2, fingerprint="f", stale=True)
    server.answers["Predict"] = always(activation_pb2.PredictResponse(steering=steering))
    edits = [Edit("layer4", 3, Op.SCALE, float("nan")), Edit("layer4", 4, Op.ADD, 1e38)]
    result = run("predict", [tmp_path / "a.png"], model="m", edits=edits, top_k=2**32 - 1)
    sent = server.calls[0][1]
    assert (sent.edits.edits[0].layer, sent.edits.edits[0].unit) == ("models/m/layers/layer4", 3)
    assert np.isnan(sent.edits.edits[0].scale)
    assert sent.edits.edits[1].add == 1e38
    assert (list(sent.images), sent.top_k) == ([b"pixels"], 2**32 - 1)
    assert (result.steering.outcome, result.steering.stale) == ("applied", True)


def test_no_edits_and_an_empty_list_are_told_apart(server: Server, run: Callable[..., Any]) -> None:
    server.answers["Predict"] = always(activation_pb2.PredictResponse())
    run("predict", [b"x"], model="m")
    run("predict", [b"x"], model="m", edits=[])
    run("predict", [b"x"], model="m", policy="p")
    assert [request.WhichOneof("steering") for _, request, _ in server.calls] == [None, "edits", "policy"]


@pytest.mark.parametrize(
    ("method", "arguments", "keywords"),
    [
        ("predict", (["/nowhere/a.png"],), {"model": "m"}),
        ("predict", ([b"x"],), {"model": "m", "top_k": -1}),
        ("predict", ([b"x"],), {"model": "m", "top_k": 2**32}),
        ("predict", ([b"x"],), {"model": "m", "policy": "p", "edits": []}),
        ("localize", ("dog",), {"model": "m", "method": "magic"}),
        ("localize", ("dog",), {"model": "m", "method": "unspecified"}),
        ("localize", ("\ud800",), {"model": "m"}),
        ("describe", (), {}),
        ("describe", (["u"],), {"layer": "l"}),
        ("describe", (["u"],), {"vocabulary": "v", "concepts": ["c"]}),
    ],
)
def test_what_no_message_can_hold_is_invalid_input_and_never_sent(
    server: Server, run: Callable[..., Any], method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidInput):
        run(method, *arguments, **keywords)
    assert server.calls == []


@pytest.mark.parametrize("arguments", [{}, {"concept": "dog", "edits": []}, {"edits": [], "scale": 2.0}])
def test_a_policy_is_by_concept_or_by_edits(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput):
        make_policy(model="m", **arguments)


def test_health_answers_for_each_service_and_raises_nothing(server: Server, run: Callable[..., Any]) -> None:
    def check(_: Any, context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:
        if dict(context.invocation_metadata())["application"] == "aligner":
            context.abort(grpc.StatusCode.UNAVAILABLE, "no replica")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    server.answers["Check"] = check
    expected = {"activation": "SERVING", "aligner": "no replica", "retrieval": "SERVING", "steering": "SERVING"}
    assert run("health") == expected


def test_a_broken_watch_is_opened_again_and_ends_with_the_alignment(server: Server, run: Callable[..., Any]) -> None:
    def stream(*done: int, ended: bool = False, broken: bool = False) -> Answer:
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

    server.answers["WatchAlignment"] = in_turn(stream(1, broken=True), stream(1, 2), stream(3, 4, ended=True))
    assert [one.done for one in run("watch_alignment", "a")] == [1, 1, 2, 3, 4]


def test_a_watch_of_nothing_is_not_found(server: Server, run: Callable[..., Any]) -> None:
    server.answers["WatchAlignment"] = refuse(grpc.StatusCode.NOT_FOUND, "no such alignment")
    with pytest.raises(errors.NotFound, match="no such alignment"):
        run("watch_alignment", "a")
    assert server.count("WatchAlignment") == 1


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MICLIP_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("MICLIP_API_KEY", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_endpoint_and_key_are_found_where_serve_left_them(server: Server, state_dir: Path) -> None:
    (state_dir / "server.json").write_text(f'{{"grpc": "{server.endpoint}"}}')
    (state_dir / "api_key").write_text("from-file\n")
    server.answers["GetModel"] = always(MODEL)
    with MiclipClient() as client:
        client.get_model("m")
    assert server.calls[0][2]["authorization"] == "Bearer from-file"


def test_the_keys_order_is_argument_environment_file(
    server: Server, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state_dir / "api_key").write_text("from-file")
    monkeypatch.setenv("MICLIP_API_KEY", "from-environment")
    settings.cache_clear()
    assert Options(endpoint="e", api_key="given").resolved().api_key == "given"
    assert Options(endpoint="e").resolved().api_key == "from-environment"


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"grpc": 7}', "{"])
def test_without_a_server_the_error_says_how_to_start_one(state_dir: Path, content: str | None) -> None:
    if content is not None:
        (state_dir / "server.json").write_text(content)
    with pytest.raises(errors.NotReady, match="miclip serve"):
        MiclipClient()


def test_the_key_is_in_no_representation() -> None:
    assert "s3cret" not in repr(Options(endpoint="e", api_key="s3cret"))


def test_a_view_shares_the_connection_and_changes_only_itself(server: Server) -> None:
    server.answers["GetModel"] = refuse(grpc.StatusCode.UNAVAILABLE)
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
