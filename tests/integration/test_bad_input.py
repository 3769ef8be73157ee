"""Requests whose parts are fine and do not go together are refused; bytes that are no request too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as steering
from tests.integration import (
    test_bad_input_images,
    test_bad_input_names,
    test_bad_input_numbers,
    test_bad_input_texts,
)
from tests.integration.bad_requests import (
    INTERNAL,
    LAYER,
    MODEL,
    UNIT,
    Bad,
    capture,
    cases,
    check_refused,
    concept,
    create,
    describe_units,
    edits,
    localize,
    predict,
)


def bad_wholes() -> Iterator[tuple[str, Bad]]:
    yield "no op", Bad("activation/Predict", predict(edits=edits()), "edits.edits[0]")
    odd = edits(scale=1, relative_to_max=True)
    yield "relative scale", Bad("activation/Predict", predict(edits=odd), "edits.edits[0].relative_to_max")
    other = edits(layer="models/emoji-vit/layers/norm", scale=0)
    yield "other model's layer", Bad("activation/Predict", predict(edits=other), "edits.edits[0].layer")
    yield "layer twice", Bad("activation/CaptureActivations", capture(layers=[LAYER, LAYER]), "layers")
    yield "no layers", Bad("activation/CaptureActivations", capture(layers=[]), "layers")
    yield "no units", Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(), "units")
    many = [UNIT] * 1001
    yield "1001 units", Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=many), "units")
    yield "1001 units", Bad("retrieval/DescribeUnits", describe_units(units=many), "units")
    yield "no units", Bad("retrieval/DescribeUnits", describe_units(units=[]), "units")
    mixed = [UNIT, "models/emoji-vit/layers/norm/units/0"]
    yield "two models", Bad("retrieval/DescribeUnits", describe_units(units=mixed), "units[1]")
    yield "no policy", Bad("steering/CreatePolicy", steering.CreatePolicyRequest(), "policy")
    yield "no policy", Bad("steering/UpdatePolicy", steering.UpdatePolicyRequest(), "policy")
    yield "no subject", Bad("steering/PreviewPolicy", steering.PreviewPolicyRequest(), "name")
    yield "no steering", Bad("steering/CreatePolicy", create(edits=None), "policy")
    yield "no edits", Bad("steering/CreatePolicy", create(edits=resources_pb2.EditList()), "policy.edits.edits")
    unscaled = create(edits=None, concept=steering.ConceptSteering(text="dog"))
    yield "no scale", Bad("steering/CreatePolicy", unscaled, "policy.concept.scale")
    preview = steering.PreviewPolicyRequest(policy=create().policy, target_label="no such label")
    yield "label", Bad("steering/PreviewPolicy", preview, "target_label")
    layers = [f"{LAYER}-{number}" for number in range(40_000)]
    yield "40000 layers", Bad("retrieval/LocalizeConcepts", localize(layers=layers), "layers[0]", "NOT_FOUND")
    yield "40000 layers", Bad("steering/CreatePolicy", concept(layers=layers), "policy.concept.layers[0]", "NOT_FOUND")
    crowd = resources_pb2.EditList(edits=[resources_pb2.Edit(layer=LAYER, scale=0)] * 1025)
    yield "1025 edits", Bad("activation/Predict", predict(edits=crowd), "edits.edits", "RESOURCE_EXHAUSTED")
    yield (
        "builtin",
        Bad("retrieval/DeleteVocabulary", retrieval_pb2.DeleteVocabularyRequest(name="vocabularies/emoji"), "name"),
    )


CASES = cases(bad_wholes)


@pytest.mark.parametrize("bad", CASES)
def test_parts_that_do_not_go_together_are_refused(wire: Any, bad: Bad) -> None:
    check_refused(wire, bad)


def test_every_rpc_that_takes_anything_is_among_the_cases() -> None:
    modules = (test_bad_input_images, test_bad_input_names, test_bad_input_numbers, test_bad_input_texts)
    covered = {case.values[0].rpc for module in modules for case in module.CASES}
    for application, _, method in every_rpc():
        assert f"{application}/{method.name}" in covered


def every_rpc() -> Iterator[tuple[str, Any, Any]]:
    """Application, service and method of all RPCs."""
    for application in ("activation", "aligner", "retrieval", "steering"):
        module = __import__(f"miclip.v1.{application}_pb2", fromlist=["DESCRIPTOR"])
        service = module.DESCRIPTOR.services_by_name[f"{application.capitalize()}Service"]
        for method in service.methods:
            yield application, service, method


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\x03\xed\xa0\x80"], ids=["bytes", "half of a surrogate pair"])
def test_bytes_that_are_no_message_are_the_clients_fault(server: Any, data: bytes) -> None:
    with grpc.insecure_channel(server.grpc_endpoint) as channel:
        for application, service, method in every_rpc():
            if data[0] == 0x0A and not _starts_with_text(method.input_type):
                continue
            metadata = [("application", application), ("authorization", f"Bearer {server.api_key}")]
            kind = channel.unary_stream if method.server_streaming else channel.unary_unary
            with pytest.raises(grpc.RpcError) as caught:
                answer = kind(f"/{service.full_name}/{method.name}")(data, metadata=metadata, timeout=10)
                list(answer if method.server_streaming else ())
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method.name
            assert method.name in caught.value.details() and "UTF-8" in caught.value.details()
            assert not INTERNAL.search(caught.value.details() + repr(caught.value.trailing_metadata()))


def _starts_with_text(message: Any) -> bool:
    field = message.fields_by_number.get(1)
    return field is not None and field.type == field.TYPE_STRING


def test_a_page_token_of_another_list_is_refused(wire: Any) -> None:
    first = retrieval_pb2.ListUnitsRequest(parent=LAYER, page_size=2)
    token = wire.call("retrieval/ListUnits", first).next_page_token
    other = retrieval_pb2.ListUnitsRequest(parent=f"{MODEL}/layers/layer3", page_token=token)
    assert wire.refusal("retrieval/ListUnits", other).fields == ("page_token",)
    models = activation_pb2.ListModelsRequest(page_token=token)
    assert wire.refusal("activation/ListModels", models).fields == ("page_token",)
