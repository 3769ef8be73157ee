"""Numbers out of range are refused with the range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as steering
from tests.integration.bad_requests import (
    LAYER,
    MODEL,
    UINT32,
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
    trace,
)


def bad_numbers() -> Iterator[tuple[str, Bad]]:
    for top_k in (0, UINT32):
        name = f"top_k {top_k}"
        yield name, Bad("activation/Predict", predict(top_k=top_k), "top_k")
        yield name, Bad("activation/CaptureActivations", capture(top_k=top_k), "top_k")
        yield name, Bad("aligner/TraceImages", trace(top_k=top_k), "top_k")
        yield name, Bad("retrieval/DescribeUnits", describe_units(top_k=top_k), "top_k")
        yield name, Bad("retrieval/LocalizeConcepts", localize(top_k=top_k), "top_k")
        yield name, Bad("steering/CreatePolicy", concept(top_k=top_k), "policy.concept.top_k")
    for value in (float("nan"), float("inf"), 1e38, -1e38):
        for op in ("scale", "add", "clamp"):
            field = f"edits.edits[0].{op}"
            strong = edits(**{op: value})
            yield f"{op} {value}", Bad("activation/Predict", predict(edits=strong), field)
            yield f"{op} {value}", Bad("activation/CaptureActivations", capture(edits=strong), field)
            yield f"{op} {value}", Bad("steering/CreatePolicy", create(edits=strong), f"policy.{field}")
        relative = edits(add=value, relative_to_max=True)
        yield f"relative {value}", Bad("activation/Predict", predict(edits=relative), "edits.edits[0].add")
        yield f"scale {value}", Bad("steering/CreatePolicy", concept(scale=value), "policy.concept.scale")
        share = create(traffic_share=value)
        yield f"share {value}", Bad("steering/CreatePolicy", share, "policy.traffic_share")
        yield f"norm {value}", Bad("steering/CreatePolicy", create(norm_limit=value), "policy.norm_limit")
        heat = localize(temperature=value)
        yield f"temperature {value}", Bad("retrieval/LocalizeConcepts", heat, "temperature")
    for op, value in (("scale", 20), ("add", 6000)):
        twice = resources_pb2.EditList(edits=[*edits(**{op: value}).edits] * 2)
        field = f"edits.edits[1].{op}"
        yield f"{op} together", Bad("activation/Predict", predict(edits=twice), field)
        yield f"{op} together", Bad("activation/CaptureActivations", capture(edits=twice), field)
        yield f"{op} together", Bad("steering/CreatePolicy", create(edits=twice), f"policy.{field}")
        preview = steering.PreviewPolicyRequest(policy=create(edits=twice).policy)
        yield f"{op} together", Bad("steering/PreviewPolicy", preview, f"policy.{field}")
    for enum in (-1, 99, 2**31 - 1):
        yield f"enum {enum}", Bad("retrieval/LocalizeConcepts", localize(method=enum), "method")
        yield f"enum {enum}", Bad("steering/CreatePolicy", concept(method=enum), "policy.concept.method")
    for share_ in (0.0, -0.5, 1.5):
        yield f"share {share_}", Bad("steering/CreatePolicy", create(traffic_share=share_), "policy.traffic_share")
    ttl = create(ttl_seconds=2**63)
    yield "ttl", Bad("steering/CreatePolicy", ttl, "policy.ttl_seconds")
    size = {"page_size": UINT32}
    yield "page_size", Bad("activation/ListModels", activation_pb2.ListModelsRequest(**size), "page_size")
    yield "page_size", Bad("aligner/ListAlignments", aligner_pb2.ListAlignmentsRequest(**size), "page_size")
    yield "page_size", Bad("aligner/ListAtlases", aligner_pb2.ListAtlasesRequest(**size), "page_size")
    yield "page_size", Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=LAYER, **size), "page_size")
    vocabularies = retrieval_pb2.ListVocabulariesRequest(**size)
    yield "page_size", Bad("retrieval/ListVocabularies", vocabularies, "page_size")
    yield "page_size", Bad("steering/ListPolicies", steering.ListPoliciesRequest(**size), "page_size")
    token = activation_pb2.ListModelsRequest(page_token="not mine")
    yield "page_token", Bad("activation/ListModels", token, "page_token")
    for unit in (256, UINT32):
        beyond = edits(unit=unit, scale=0)
        yield f"unit {unit}", Bad("activation/Predict", predict(edits=beyond), "edits.edits[0].unit")
        yield f"unit {unit}", Bad("steering/CreatePolicy", create(edits=beyond), "policy.edits.edits[0].unit")
    for settings in ({"steps": 0}, {"steps": UINT32}, {"temperature": float("nan")}, {"output_weight": 1e38}):
        chosen = aligner_pb2.AlignmentSettings(**settings)
        request = aligner_pb2.CreateAlignmentRequest(model=MODEL, settings=chosen)
        yield str(settings), Bad("aligner/CreateAlignment", request, f"settings.{next(iter(settings))}")


CASES = cases(bad_numbers)


@pytest.mark.parametrize("bad", CASES)
def test_a_number_out_of_range_is_refused_with_the_range(wire: Any, bad: Bad) -> None:
    check_refused(wire, bad)
