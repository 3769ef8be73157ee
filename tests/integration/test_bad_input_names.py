"""Names that are malformed, or of nothing there is, are refused with their form or what there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from miclip.v1 import activation_pb2, aligner_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as steering
from tests.integration.bad_requests import (
    LAYER,
    MEGABYTE,
    MODEL,
    UINT32,
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
    trace,
)

TRAVERSAL = "models/../../etc/passwd"


def bad_names() -> Iterator[tuple[str, Bad]]:
    wrong = (TRAVERSAL, "", MEGABYTE, "models/", "models/a/b", "models/emoji-resnet\n", "modèles/é")
    for value in wrong:
        name = repr(value[:30])
        yield name, Bad("activation/GetModel", activation_pb2.GetModelRequest(name=value), "name")
        yield name, Bad("activation/Predict", predict(model=value), "model")
        yield name, Bad("activation/CaptureActivations", capture(model=value), "model")
        yield name, Bad("activation/CaptureActivations", capture(layers=[value]), "layers[0]")
        yield name, Bad("activation/Predict", predict(edits=edits(layer=value, scale=0)), "edits.edits[0].layer")
        yield name, Bad("activation/Predict", predict(policy=value), "policy")
        yield name, Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=[UNIT, value]), "units[1]")
        yield name, Bad("aligner/CreateAlignment", aligner_pb2.CreateAlignmentRequest(model=value), "model")
        yield name, Bad("aligner/TraceImages", trace(model=value), "model")
        yield name, Bad("aligner/GetAlignment", aligner_pb2.GetAlignmentRequest(name=value), "name")
        yield name, Bad("aligner/CancelAlignment", aligner_pb2.CancelAlignmentRequest(name=value), "name")
        yield name, Bad("aligner/WatchAlignment", aligner_pb2.WatchAlignmentRequest(name=value), "name")
        yield name, Bad("aligner/GetAtlas", aligner_pb2.GetAtlasRequest(name=value), "name")
        yield name, Bad("aligner/ActivateAtlas", aligner_pb2.ActivateAtlasRequest(name=value), "name")
        yield name, Bad("retrieval/DescribeUnits", describe_units(units=[UNIT, value]), "units[1]")
        yield name, Bad("retrieval/DescribeUnits", describe_units(vocabulary=value), "vocabulary")
        yield name, Bad("retrieval/LocalizeConcepts", localize(model=value), "model")
        yield name, Bad("retrieval/LocalizeConcepts", localize(layers=[value]), "layers[0]")
        yield name, Bad("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=value), "name")
        yield name, Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=value), "parent")
        yield name, Bad("retrieval/DeleteVocabulary", retrieval_pb2.DeleteVocabularyRequest(name=value), "name")
        yield name, Bad("steering/CreatePolicy", create(model=value), "policy.model")
        yield name, Bad("steering/GetPolicy", steering.GetPolicyRequest(name=value), "name")
        yield name, Bad("steering/DeletePolicy", steering.DeletePolicyRequest(name=value), "name")
        yield name, Bad("steering/PreviewPolicy", steering.PreviewPolicyRequest(name=value), "name")
        update = steering.UpdatePolicyRequest(policy=steering.Policy(name=value))
        yield name, Bad("steering/UpdatePolicy", update, "policy.name")
        if value:
            vocabulary = retrieval_pb2.CreateVocabularyRequest(vocabulary_id=value, concepts=["dog"])
            yield name, Bad("retrieval/CreateVocabulary", vocabulary, "vocabulary_id")
            policy = steering.CreatePolicyRequest(policy_id=value, policy=create().policy)
            yield name, Bad("steering/CreatePolicy", policy, "policy_id")
            stop = steering.StopSteeringRequest(model=value, reason="x")
            yield name, Bad("steering/StopSteering", stop, "model")
            yield name, Bad("aligner/ListAtlases", aligner_pb2.ListAtlasesRequest(model=value), "model")
            yield name, Bad("steering/ListPolicies", steering.ListPoliciesRequest(model=value), "model")
            token = steering.ListPoliciesRequest(page_token=value)
            yield name, Bad("steering/ListPolicies", token, "page_token")
            yield name, Bad("steering/WatchPolicies", steering.WatchPoliciesRequest(model=value), "model")
            resumed = steering.WatchPoliciesRequest(resume_token=value)
            yield name, Bad("steering/WatchPolicies", resumed, "resume_token")


def unknown_names() -> Iterator[tuple[str, Bad]]:
    model, layer = "models/none", f"{MODEL}/layers/none"
    sha = "atlases/" + "0" * 64

    def missing(rpc: str, request: Any, field: str, *, allowed: bool = False) -> tuple[str, Bad]:
        return "unknown", Bad(rpc, request, field, "NOT_FOUND", allowed)

    yield missing("activation/GetModel", activation_pb2.GetModelRequest(name=model), "name", allowed=True)
    yield missing("activation/Predict", predict(model=model), "model", allowed=True)
    yield missing("activation/Predict", predict(policy="policies/none"), "policy")
    yield missing(
        "activation/Predict", predict(edits=edits(layer=layer, scale=0)), "edits.edits[0].layer", allowed=True
    )
    yield missing("activation/CaptureActivations", capture(layers=[layer]), "layers[0]", allowed=True)
    yield missing("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=[f"{layer}/units/0"]), "units[0]")
    yield missing("aligner/CreateAlignment", aligner_pb2.CreateAlignmentRequest(model=model), "model")
    yield missing("aligner/TraceImages", trace(model=model), "model")
    yield missing("aligner/GetAlignment", aligner_pb2.GetAlignmentRequest(name="alignments/none"), "name")
    yield missing("aligner/GetAtlas", aligner_pb2.GetAtlasRequest(name=sha), "name")
    yield missing("aligner/ActivateAtlas", aligner_pb2.ActivateAtlasRequest(name=sha), "name")
    yield missing("retrieval/DescribeUnits", describe_units(units=[f"{model}/layers/a/units/0"]), "units[0]")
    yield missing("retrieval/DescribeUnits", describe_units(vocabulary="vocabularies/none"), "vocabulary")
    yield missing("retrieval/LocalizeConcepts", localize(model=model), "model")
    yield missing("retrieval/LocalizeConcepts", localize(layers=[layer]), "layers[0]")
    yield missing("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=f"{layer}/units/0"), "name")
    yield missing("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=layer), "parent")
    yield missing("retrieval/DeleteVocabulary", retrieval_pb2.DeleteVocabularyRequest(name="vocabularies/none"), "name")
    yield missing("steering/CreatePolicy", create(model=model), "policy.model")
    yield missing("steering/CreatePolicy", concept(layers=[layer]), "policy.concept.layers[0]")
    yield missing("steering/GetPolicy", steering.GetPolicyRequest(name="policies/none"), "name")
    gone = steering.Policy(name="policies/none", model=MODEL, etag="x")
    yield missing("steering/UpdatePolicy", steering.UpdatePolicyRequest(policy=gone), "policy.name")
    yield missing("steering/DeletePolicy", steering.DeletePolicyRequest(name="policies/none"), "name")
    yield missing("steering/PreviewPolicy", steering.PreviewPolicyRequest(name="policies/none"), "name")
    yield missing("steering/StopSteering", steering.StopSteeringRequest(model=model, reason="x"), "model")


def bad_features() -> Iterator[tuple[str, Bad]]:
    features = f"{LAYER}/dictionaries/topk-512"
    mixed_up = (f"{features}/units/0", f"{LAYER}/features/0", f"{features}/features/-1", f"{features}/features/",
                f"{features}/dictionaries/x/features/0", f"{LAYER}/dictionaries/features/0",
                f"{features}/0")  # fmt: skip
    for value in mixed_up:
        name = value.removeprefix(f"{MODEL}/layers/")
        yield name, Bad("retrieval/DescribeUnits", describe_units(units=[UNIT, value]), "units[1]")
        yield name, Bad("aligner/EmbedUnits", aligner_pb2.EmbedUnitsRequest(units=[value]), "units[0]")
        yield name, Bad("retrieval/GetUnit", retrieval_pb2.GetUnitRequest(name=value), "name")
    missing = (f"{LAYER}/dictionaries/none", f"{MODEL}/layers/logits/dictionaries/topk-512",
               f"{MODEL}/layers/topk-512", f"{MODEL}/layers/layer3/dictionaries/topk-512")  # fmt: skip
    for value in missing:
        name, unknown = value.removeprefix(f"{MODEL}/layers/"), "NOT_FOUND"
        feature = f"{value}/{'features' if 'dictionaries' in value else 'units'}/0"
        yield name, Bad("activation/CaptureActivations", capture(layers=[LAYER, value]), "layers[1]", unknown)
        layer = predict(edits=edits(layer=value, scale=0))
        yield name, Bad("activation/Predict", layer, "edits.edits[0].layer", unknown)
        yield name, Bad("retrieval/DescribeUnits", describe_units(units=[feature]), "units[0]", unknown)
        yield name, Bad("retrieval/LocalizeConcepts", localize(layers=[value]), "layers[0]", unknown)
        yield name, Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=value), "parent", unknown)
        yield name, Bad("steering/CreatePolicy", concept(layers=[value]), "policy.concept.layers[0]", unknown)
    twice = f"{features}/dictionaries/topk-512"
    yield "nested", Bad("activation/CaptureActivations", capture(layers=[twice]), "layers[0]")
    yield "nested", Bad("retrieval/ListUnits", retrieval_pb2.ListUnitsRequest(parent=twice), "parent")
    for unit in (512, UINT32):
        beyond = edits(layer=features, unit=unit, scale=0)
        yield f"feature {unit}", Bad("activation/Predict", predict(edits=beyond), "edits.edits[0].unit")
    beyond_name = retrieval_pb2.GetUnitRequest(name=f"{features}/features/512")
    yield "feature 512", Bad("retrieval/GetUnit", beyond_name, "name")
    for neuron in (edits(scale=1, reconstruct=True), edits(clamp=1, relative_to_max=True, reconstruct=True)):
        yield "neuron", Bad("activation/Predict", predict(edits=neuron), "edits.edits[0].reconstruct")
        yield "neuron", Bad("activation/CaptureActivations", capture(edits=neuron), "edits.edits[0].reconstruct")
        yield "neuron", Bad("steering/CreatePolicy", create(edits=neuron), "policy.edits.edits[0].reconstruct")
    for layers in ([], [LAYER], [features, LAYER]):
        found = concept(layers=layers, reconstruct=True, top_k=600)
        yield "neurons", Bad("steering/CreatePolicy", found, "policy.concept.reconstruct")


CASES = cases(bad_names, unknown_names, bad_features)


@pytest.mark.parametrize("bad", CASES)
def test_a_name_that_cannot_be_used_is_refused_with_what_can(wire: Any, bad: Bad) -> None:
    check_refused(wire, bad)
