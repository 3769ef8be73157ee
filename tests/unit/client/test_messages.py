"""What is sent and what comes back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from miclip import errors
from miclip.client import AsyncMiclipClient, MiclipClient, make_policy
from miclip.settings import settings
from miclip.v1 import (
    activation_pb2,
    aligner_pb2,
    resources_pb2,
    retrieval_pb2,
    steering_pb2,
)


def test_both_clients_have_the_same_methods_and_parameters() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
        return {name: list(inspect.signature(value).parameters) for name, value in public.items()}

    assert surface(MiclipClient) == surface(AsyncMiclipClient)


def test_every_rpc_of_the_protos_is_reached_by_some_method(server: Any, tmp_path: Path) -> None:
    protos = (activation_pb2, aligner_pb2, retrieval_pb2, steering_pb2)
    services = [service for module in protos for service in module.DESCRIPTOR.services_by_name.values()]
    ended = aligner_pb2.Alignment(state=aligner_pb2.ALIGNMENT_STATE_SUCCEEDED)
    for service in services:
        for method in service.methods:
            server.answers[method.name] = server.always(method.output_type._concrete_class())
    unit = retrieval_pb2.Unit(name="models/m/layers/l/units/0")
    unit.description.unit = unit.name
    server.answers["GetUnit"] = server.always(retrieval_pb2.GetUnitResponse(unit=unit))
    server.answers["WatchAlignment"] = server.always(iter([aligner_pb2.WatchAlignmentResponse(alignment=ended)]))
    beat = steering_pb2.WatchPoliciesResponse(heartbeat=steering_pb2.PolicyHeartbeat(), heartbeat_seconds=5)
    server.answers["WatchPolicies"] = server.always(iter([beat]))
    stored = steering_pb2.Policy(version=1)
    for name in ("CreatePolicy", "GetPolicy", "UpdatePolicy"):
        server.answers[name] = server.always(getattr(steering_pb2, f"{name}Response")(policy=stored))
    image, policy = b"x", make_policy(model="m", concept="dog", scale=2.0)
    with MiclipClient(endpoint=server.endpoint, api_key="k") as client:
        client.list_models(), client.get_model("m"), client.predict([image], model="m")
        server.answers["CaptureActivations"] = server.refuse(grpc.StatusCode.NOT_FOUND)
        with pytest.raises(errors.NotFound):
            client.capture([image], model="m", layers=["l"])
        client.embed_units(["u"]), client.embed_texts(["t"]), client.embed_images([image])
        client.trace([image], model="m", concepts=["t"])
        client.create_alignment("m"), client.get_alignment("a"), client.list_alignments(), client.cancel_alignment("a")
        list(client.watch_alignment("a"))
        client.list_atlases(), client.get_atlas("a"), client.activate_atlas("a")
        client.describe(["u"]), client.localize("dog", model="m"), client.get_unit("u"), client.list_units("l")
        client.create_vocabulary("v", ["a"]), client.list_vocabularies(), client.delete_vocabulary("v")
        client.create_policy("p", policy), client.get_policy("p"), client.list_policies(), client.update_policy(policy)
        client.delete_policy("p"), client.preview_policy("p"), client.stop_steering("r"), client.resume_steering("r")
        with client.watch_policies() as watch:
            next(watch)
    assert {name for name, _, _ in server.calls} == {method.name for service in services for method in service.methods}
    for name, _, metadata in server.calls:
        application = next(
            s.name.removesuffix("Service").lower() for s in services if name in [method.name for method in s.methods]
        )
        assert metadata["application"] == application


def test_lists_follow_every_page(server: Any, run: Callable[..., Any]) -> None:
    def page(request: retrieval_pb2.ListUnitsRequest, _: Any) -> retrieval_pb2.ListUnitsResponse:
        start = int(request.page_token or 0)
        units = [retrieval_pb2.Unit(name=f"models/m/layers/l/units/{start + i}") for i in range(2)]
        return retrieval_pb2.ListUnitsResponse(units=units, next_page_token=str(start + 2) if start < 4 else "")

    server.answers["ListUnits"] = page
    assert [unit.unit for unit in run("list_units", "models/m/layers/l")] == list(range(6))


def test_a_layer_is_described_in_requests_within_the_limit(server: Any, run: Callable[..., Any]) -> None:
    def describe(request: retrieval_pb2.DescribeUnitsRequest, _: Any) -> retrieval_pb2.DescribeUnitsResponse:
        concept = resources_pb2.LabeledConcept(concept="dog", index=3, score=0.5, causal_score=0.25)
        descriptions = [
            retrieval_pb2.UnitDescription(
                unit=unit, concepts=[concept], abstained=True, embedding=2, ranking=2, contrast=4.5
            )
            for unit in request.units
        ]
        timings = [resources_pb2.Timing(stage="search", seconds=1.0)]
        return retrieval_pb2.DescribeUnitsResponse(descriptions=descriptions, timings=timings)

    units = settings().max_units + 7
    server.answers["ListUnits"] = server.always(retrieval_pb2.ListUnitsResponse(total_size=units))
    server.answers["DescribeUnits"] = describe
    result = run("describe", layer="models/m/layers/l", concepts=["dog"], top_k=1)
    assert [str(one.name) for one in result.descriptions] == [f"models/m/layers/l/units/{i}" for i in range(units)]
    assert result.descriptions[0].concepts[0].concept == "dog"
    first = result.descriptions[0]
    assert (first.abstained, first.embedding, first.ranking) == (True, "pattern", "causal_score")
    assert (first.contrast, first.stability, first.concepts[0].causal_score) == (4.5, None, 0.25)
    assert result.timings == {"search": 2.0}
    assert [len(request.units) for name, request, _ in server.calls if name == "DescribeUnits"] == [units - 7, 7]


def test_activations_are_one_array_a_layer(server: Any, run: Callable[..., Any]) -> None:
    def image(start: float) -> activation_pb2.ImageActivations:
        layers = [
            activation_pb2.LayerActivations(layer="models/m/layers/a", values=[start, start + 1]),
            activation_pb2.LayerActivations(layer="models/m/layers/b", values=[start]),
        ]
        return activation_pb2.ImageActivations(layers=layers)

    response = activation_pb2.CaptureActivationsResponse(results=[image(0), image(5), image(9)])
    server.answers["CaptureActivations"] = server.always(response)
    result = run("capture", [b"1", b"2", b"3"], model="m", layers=["a", "b"])
    np.testing.assert_array_equal(result.activations["models/m/layers/a"], np.float32([[0, 1], [5, 6], [9, 10]]))
    assert result.activations["models/m/layers/b"].shape == (3, 1)
    assert result.strongest == {}


def test_edits_of_the_library_are_sent_under_the_full_name_of_their_layer(
    server: Any, run: Callable[..., Any], tmp_path: Path
) -> None:
    from miclip.steering.edits import Edit, Op

    (tmp_path / "a.png").write_bytes(b"pixels")
    steering = activation_pb2.AppliedSteering(outcome=2, fingerprint="f", stale=True)
    server.answers["Predict"] = server.always(activation_pb2.PredictResponse(steering=steering))
    edits = [Edit("layer4", 3, Op.SCALE, float("nan")), Edit("layer4", 4, Op.ADD, 1e38)]
    result = run("predict", [tmp_path / "a.png"], model="m", edits=edits, top_k=2**32 - 1)
    sent = server.calls[0][1]
    assert (sent.edits.edits[0].layer, sent.edits.edits[0].unit) == ("models/m/layers/layer4", 3)
    assert np.isnan(sent.edits.edits[0].scale)
    assert sent.edits.edits[1].add == 1e38
    assert (list(sent.images), sent.top_k) == ([b"pixels"], 2**32 - 1)
    assert (result.steering.outcome, result.steering.stale) == ("applied", True)


def test_no_edits_and_an_empty_list_are_told_apart(server: Any, run: Callable[..., Any]) -> None:
    server.answers["Predict"] = server.always(activation_pb2.PredictResponse())
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
    server: Any, run: Callable[..., Any], method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidInput):
        run(method, *arguments, **keywords)
    assert server.calls == []


@pytest.mark.parametrize("arguments", [{}, {"concept": "dog", "edits": []}, {"edits": [], "scale": 2.0}])
def test_a_policy_is_by_concept_or_by_edits(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput):
        make_policy(model="m", **arguments)


def test_health_answers_for_each_service_and_raises_nothing(server: Any, run: Callable[..., Any]) -> None:
    def check(_: Any, context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:
        if dict(context.invocation_metadata())["application"] == "aligner":
            context.abort(grpc.StatusCode.UNAVAILABLE, "no replica")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    server.answers["Check"] = check
    expected = {"activation": "SERVING", "aligner": "no replica", "retrieval": "SERVING", "steering": "SERVING"}
    assert run("health") == expected
