"""Policies: what is stored is what is applied; previews; the kill switch; Redis away."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.catalogue import load_target
from miclip.images import decode_image
from miclip.steering.edits import Edit, Op, compile_edits, fingerprint
from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as pb
from tests.names import RESNET_NAME as MODEL
from tests.waiting import wait_until

LAYER = f"{MODEL}/layers/layer4"


def by_hand(*units: int, scale: float = 0.0) -> resources_pb2.EditList:
    return resources_pb2.EditList(edits=[resources_pb2.Edit(layer=LAYER, unit=unit, scale=scale) for unit in units])


@pytest.fixture
def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


@pytest.fixture(autouse=True)
def resumed(wire: Any) -> Iterator[None]:
    """Whatever a test stopped goes on after it."""
    yield
    for model in ("", MODEL):
        wire.call("steering/ResumeSteering", pb.ResumeSteeringRequest(model=model, reason="end of a test"))


def create(wire: Any, policy_id: str, **fields: Any) -> Any:
    policy = pb.Policy(model=MODEL, **({"edits": by_hand(1, 2)} | fields))
    return wire.call("steering/CreatePolicy", pb.CreatePolicyRequest(policy_id=policy_id, policy=policy)).policy


def predict(wire: Any, image: bytes, policy: str, **metadata: str) -> Any:
    request = activation_pb2.PredictRequest(
        model=MODEL, images=[image], policy=policy, include_baseline=True, top_k=1000
    )
    return wire.call("activation/Predict", request, metadata=list(metadata.items()))


def logits(predictions: Any) -> np.ndarray:
    return np.asarray([p.logit for p in sorted(predictions, key=lambda p: p.index)], dtype=np.float32)


def test_a_policy_steers_the_next_request_that_names_it(wire: Any, dog: bytes, new_id: str) -> None:
    policy = create(wire, new_id, edits=by_hand(*range(60)))
    assert (policy.name, policy.version) == (f"policies/{new_id}", 1)
    answer = predict(wire, dog, policy.name)
    edits = [Edit("layer4", unit, Op.SCALE, 0.0) for unit in range(60)]
    target = load_target("emoji-resnet", "cpu")
    inputs = target.preprocess(decode_image(dog, field="x"))[None]
    expected = target.forward(inputs, edits=compile_edits([edits], target.layer_sizes)).logits[0].numpy()
    np.testing.assert_allclose(logits(answer.results[0].predictions), expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(logits(answer.results[0].baseline), expected, atol=1e-3)
    assert answer.steering.outcome == activation_pb2.STEERING_OUTCOME_APPLIED
    assert (answer.steering.policy, answer.steering.policy_version) == (policy.name, 1)
    assert answer.steering.fingerprint == fingerprint(edits)
    assert not answer.steering.stale


def test_reading_gives_back_what_was_written(wire: Any, new_id: str) -> None:
    edits = resources_pb2.EditList(
        edits=[
            resources_pb2.Edit(layer=LAYER, unit=3, add=0.25, relative_to_max=True),
            resources_pb2.Edit(layer=f"{MODEL}/layers/logits", unit=0, clamp=-1),
        ]
    )
    written = create(wire, new_id, edits=edits, ttl_seconds=3600, traffic_share=0.5, description="why")
    read = wire.call("steering/GetPolicy", pb.GetPolicyRequest(name=written.name)).policy
    assert read == written
    assert read.edits == edits
    assert (read.ttl_seconds, read.traffic_share, read.description) == (3600, 0.5, "why")
    assert read.expire_time.seconds == pytest.approx(read.update_time.seconds + 3600, abs=1)
    assert not read.resolved_edits[0].relative_to_max
    assert read.resolved_edits[0].add > 0
    listed = wire.call("steering/ListPolicies", pb.ListPoliciesRequest(model=MODEL, page_size=1000)).policies
    assert written in listed
    assert [p.name for p in listed] == sorted(p.name for p in listed)


def test_an_update_needs_the_current_etag(wire: Any, dog: bytes, new_id: str) -> None:
    first = create(wire, new_id)
    changed = pb.Policy()
    changed.CopyFrom(first)
    changed.edits.CopyFrom(by_hand(*range(40), scale=2))
    second = wire.call("steering/UpdatePolicy", pb.UpdatePolicyRequest(policy=changed)).policy
    assert (second.version, second.create_time) == (2, first.create_time)
    assert second.etag != first.etag
    refusal = wire.refusal("steering/UpdatePolicy", pb.UpdatePolicyRequest(policy=changed))
    assert (refusal.code, refusal.reason, refusal.fields) == ("ABORTED", "ETAG_MISMATCH", ("policy.etag",))
    refusal = wire.refusal("steering/DeletePolicy", pb.DeletePolicyRequest(name=first.name, etag=first.etag))
    assert refusal.code == "ABORTED"
    assert wire.call("steering/GetPolicy", pb.GetPolicyRequest(name=first.name)).policy == second
    wait_until(lambda: predict(wire, dog, first.name).steering.policy_version == 2, 5)


def test_a_deleted_policy_steers_nothing(wire: Any, dog: bytes, new_id: str) -> None:
    policy = create(wire, new_id)
    predict(wire, dog, policy.name)
    wire.call("steering/DeletePolicy", pb.DeletePolicyRequest(name=policy.name, etag=policy.etag))
    request = activation_pb2.PredictRequest(model=MODEL, images=[dog], policy=policy.name)
    wait_until(lambda: _code(wire, "activation/Predict", request) == "NOT_FOUND", 5)
    refusal = wire.refusal("activation/Predict", request)
    assert (refusal.code, refusal.fields) == ("NOT_FOUND", ("policy",))
    assert wire.refusal("steering/GetPolicy", pb.GetPolicyRequest(name=policy.name)).code == "NOT_FOUND"


def test_a_name_is_used_once(wire: Any, new_id: str) -> None:
    create(wire, new_id)
    request = pb.CreatePolicyRequest(policy_id=new_id, policy=pb.Policy(model=MODEL, edits=by_hand(1)))
    assert wire.refusal("steering/CreatePolicy", request).code == "ALREADY_EXISTS"


def test_a_policy_ends_with_its_time_to_live(wire: Any, dog: bytes, new_id: str) -> None:
    policy = create(wire, new_id, ttl_seconds=2)
    predict(wire, dog, policy.name)
    request = activation_pb2.PredictRequest(model=MODEL, images=[dog], policy=policy.name)
    wait_until(lambda: _code(wire, "activation/Predict", request) == "NOT_FOUND", 5)
    assert "expired" in wire.refusal("activation/Predict", request).message
    create(wire, new_id)  # the id is free again


def test_a_share_of_the_traffic_is_steered_the_same_way_every_time(wire: Any, dog: bytes, new_id: str) -> None:
    policy = create(wire, new_id, traffic_share=0.3)
    outcomes = {}
    for number in range(60):
        outcomes[number] = predict(wire, dog, policy.name, request_id=f"r-{number}").steering.outcome
    for number in range(5):
        assert predict(wire, dog, policy.name, request_id=f"r-{number}").steering.outcome == outcomes[number]
    steered = list(outcomes.values()).count(activation_pb2.STEERING_OUTCOME_APPLIED)
    assert set(outcomes.values()) == {
        activation_pb2.STEERING_OUTCOME_APPLIED,
        activation_pb2.STEERING_OUTCOME_NOT_IN_SHARE,
    }
    assert 5 <= steered <= 32  # 18 expected


def test_the_kill_switch_stops_policies_and_inline_edits(wire: Any, dog: bytes, new_id: str) -> None:
    policy = create(wire, new_id, edits=by_hand(*range(60)))
    for model in ("", MODEL):
        stops = wire.call("steering/StopSteering", pb.StopSteeringRequest(model=model, reason="a test")).stops
        assert [(stop.model, stop.reason) for stop in stops] == [(model, "a test")]
        wait_until(lambda: _outcome(wire, dog, policy.name) == activation_pb2.STEERING_OUTCOME_STOPPED, 5)
        answer = predict(wire, dog, policy.name)
        assert (logits(answer.results[0].predictions) == logits(answer.results[0].baseline)).all()
        assert answer.steering.fingerprint == ""
        inline = activation_pb2.PredictRequest(model=MODEL, images=[dog], edits=by_hand(1))
        stopped = wire.call("activation/Predict", inline).steering
        assert stopped.outcome == activation_pb2.STEERING_OUTCOME_STOPPED
        resumed = pb.ResumeSteeringRequest(model=model, reason="a test")
        assert not wire.call("steering/ResumeSteering", resumed).stops
        wait_until(lambda: _outcome(wire, dog, policy.name) == activation_pb2.STEERING_OUTCOME_APPLIED, 5)


def test_a_stop_of_one_model_leaves_the_other_alone(wire: Any, dog: bytes) -> None:
    wire.call("steering/StopSteering", pb.StopSteeringRequest(model=MODEL, reason="a test"))
    vit = "models/emoji-vit"
    edit = resources_pb2.Edit(layer=f"{vit}/layers/norm", unit=1, scale=0)
    request = activation_pb2.PredictRequest(model=vit, images=[dog], edits=resources_pb2.EditList(edits=[edit]))
    assert wire.call("activation/Predict", request).steering.outcome == activation_pb2.STEERING_OUTCOME_APPLIED


def test_a_concept_becomes_the_units_that_localize_finds(wire: Any, new_id: str) -> None:
    made_up = resources_pb2.LocalizationEvidence(relevance=1, doubtful=True)
    concept = pb.ConceptSteering(text="dog", scale=0, top_k=7, layers=[LAYER], evidence=made_up)
    policy = create(wire, new_id, edits=None, concept=concept)
    found = wire.call(
        "retrieval/LocalizeConcepts",
        retrieval_pb2.LocalizeConceptsRequest(model=MODEL, texts=["dog"], layers=[LAYER], top_k=7),
    )
    units = [located.unit for located in found.localizations[0].units]
    assert [f"{edit.layer}/units/{edit.unit}" for edit in policy.resolved_edits] == units
    assert all(edit.WhichOneof("op") == "scale" and edit.scale == 0 for edit in policy.resolved_edits)
    concept.evidence.CopyFrom(found.localizations[0].evidence)  # the server's, whatever a client says
    assert policy.concept == concept
    assert wire.call("steering/GetPolicy", pb.GetPolicyRequest(name=policy.name)).policy.concept == concept


def test_removing_a_concept_lowers_it_and_random_units_do_not(wire: Any) -> None:
    policy = pb.Policy(model=MODEL, concept=pb.ConceptSteering(text="dog", scale=0, top_k=8, layers=[LAYER]))
    answer = wire.call("steering/PreviewPolicy", pb.PreviewPolicyRequest(policy=policy))
    receipt = answer.receipt
    assert receipt.target_label == "dog"
    assert receipt.target_images == 16
    assert receipt.target_change < -0.05
    assert receipt.target_change < receipt.random_target_change
    assert abs(receipt.off_target_change) < abs(receipt.target_change)
    assert receipt.norm_change > 0
    assert receipt.seconds > 0
    edits = [f"{edit.layer}/units/{edit.unit}" for edit in answer.resolved_edits]
    assert [unit.unit for unit in receipt.units] == edits
    assert all(unit.mean_after == pytest.approx(0, abs=1e-6) for unit in receipt.units)
    assert any(unit.mean_before > 0 for unit in receipt.units)
    assert answer.evidence.labels[0].label == "dog"
    assert not answer.evidence.doubtful


def test_a_preview_by_hand_has_no_evidence_and_one_of_an_unknown_concept_is_doubtful(wire: Any) -> None:
    by_hand = resources_pb2.EditList(edits=[resources_pb2.Edit(layer=LAYER, unit=1, scale=0)])
    unknown = pb.ConceptSteering(text="tax declaration", scale=0, top_k=1, layers=[LAYER])
    answers = [
        wire.call("steering/PreviewPolicy", pb.PreviewPolicyRequest(policy=policy, target_label="dog"))
        for policy in (pb.Policy(model=MODEL, edits=by_hand), pb.Policy(model=MODEL, concept=unknown))
    ]
    assert [answer.HasField("evidence") for answer in answers] == [False, True]
    assert answers[1].evidence.doubtful


def test_a_category_is_measured_on_the_labels_that_it_covers(wire: Any) -> None:
    policy = pb.Policy(model=MODEL, concept=pb.ConceptSteering(text="fruit", scale=0, top_k=8, layers=[LAYER]))
    answer = wire.call("steering/PreviewPolicy", pb.PreviewPolicyRequest(policy=policy))
    covered = [share.label for share in answer.evidence.labels]
    targets = answer.receipt.targets
    assert len(targets) > 1
    assert {target.label for target in targets} <= set(covered)
    assert sum(target.share for target in targets) == pytest.approx(1)
    assert sum(target.images for target in targets) == answer.receipt.target_images
    assert answer.receipt.target_change < answer.receipt.random_target_change


def test_a_preview_stores_nothing_and_repeats_itself(wire: Any) -> None:
    listing = pb.ListPoliciesRequest(page_size=1000)
    before = wire.call("steering/ListPolicies", listing).policies
    request = pb.PreviewPolicyRequest(policy=pb.Policy(model=MODEL, edits=by_hand(1, 2, 3)), target_label="cat")
    first, second = (wire.call("steering/PreviewPolicy", request).receipt for _ in range(2))
    assert first.target_label == "cat"
    for field in ("target_change", "off_target_change", "random_target_change", "specificity"):
        assert getattr(first, field) == pytest.approx(getattr(second, field), rel=1e-3, abs=1e-5)
    assert wire.call("steering/ListPolicies", listing).policies == before


def test_a_preview_is_possible_while_steering_is_stopped(wire: Any, dog: bytes) -> None:
    wire.call("steering/StopSteering", pb.StopSteeringRequest(reason="a test"))
    request = pb.PreviewPolicyRequest(
        policy=pb.Policy(model=MODEL, edits=by_hand(*range(100))), images=[dog], target_label=""
    )
    receipt = wire.call("steering/PreviewPolicy", request).receipt
    assert receipt.images == receipt.target_images == 1
    assert receipt.target_change != 0


def test_a_policy_beyond_its_norm_limit_is_refused(wire: Any, new_id: str) -> None:
    policy = pb.Policy(model=MODEL, edits=by_hand(*range(200), scale=50), norm_limit=0.5)
    refusal = wire.refusal("steering/CreatePolicy", pb.CreatePolicyRequest(policy_id=new_id, policy=policy))
    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", ("policy.norm_limit",))
    create(wire, new_id, edits=by_hand(1, scale=1.01), norm_limit=0.5)


@pytest.fixture(scope="module")
def own_model(server: Any) -> str:
    """A model with labels of its own, imported while the server runs."""
    import torch
    from safetensors.torch import save_file

    from miclip.catalogue import Catalogue
    from miclip.models.families import build_module

    torch.manual_seed(0)
    weights = Path(server.probe_dir).parent / "own.safetensors"
    save_file(build_module("timm/test_resnet", 3).state_dict(), weights)
    models = Path(server.data_dir) / "models"
    Catalogue(imported=models).import_model("own", "timm/test_resnet", str(weights), labels=["bolt", "nut", "gear"])
    return "models/own"


def test_the_norm_limit_of_an_own_model_is_measured_on_its_probe_set(
    server: Any, wire: Any, own_model: str, new_id: str
) -> None:
    layer = f"{own_model}/layers/layer4"
    mild, harsh = ([resources_pb2.Edit(layer=layer, unit=n, scale=by) for n in range(40)] for by in (1.01, 90))
    policy = pb.Policy(model=own_model, edits=resources_pb2.EditList(edits=mild), norm_limit=0.5)
    refusal = wire.refusal("steering/CreatePolicy", pb.CreatePolicyRequest(policy_id=new_id, policy=policy))
    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", ("policy.norm_limit",)), "it has no atlas yet"
    assert "MICLIP_PROBE_SETS" in refusal.message

    _align_on_small(server, wire, own_model)
    wire.call("steering/CreatePolicy", pb.CreatePolicyRequest(policy_id=new_id, policy=policy))
    preview = wire.call("steering/PreviewPolicy", pb.PreviewPolicyRequest(name=f"policies/{new_id}"))
    assert 0 < preview.receipt.norm_change < 0.5
    policy.edits.CopyFrom(resources_pb2.EditList(edits=harsh))
    refusal = wire.refusal("steering/CreatePolicy", pb.CreatePolicyRequest(policy_id=f"{new_id}-2", policy=policy))
    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", ("policy.norm_limit",))
    assert "typical norm" in refusal.message


def _align_on_small(server: Any, wire: Any, model: str) -> None:
    from PIL import Image

    from miclip.demo.probe import demo_probe

    probe, folder = demo_probe(), Path(server.probe_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(0, len(probe.names), len(probe.names) // 128):  # the same as other tests put there
        Image.fromarray(probe.load(row, row + 1)[0].permute(1, 2, 0).numpy()).save(folder / f"{row:05d}.png")
    request = aligner_pb2.CreateAlignmentRequest(
        model=model, probe_set="small", activate=True, settings=aligner_pb2.AlignmentSettings(steps=20)
    )
    name = wire.call("aligner/CreateAlignment", request).alignment.name
    end = wire.stream("aligner/WatchAlignment", aligner_pb2.WatchAlignmentRequest(name=name), timeout=240)[-1].alignment
    assert end.state == aligner_pb2.ALIGNMENT_STATE_SUCCEEDED, end.error


def test_every_change_is_in_the_audit_stream_with_who_and_what(wire: Any, server: Any, new_id: str) -> None:
    import asyncio

    from services.state.policy_store import Store

    policy = create(wire, new_id)
    wire.call("steering/StopSteering", pb.StopSteeringRequest(reason="audit me"))
    wire.call("steering/DeletePolicy", pb.DeletePolicyRequest(name=policy.name))

    async def newest() -> list[dict[str, Any]]:
        store = Store(server.redis_url)
        try:
            return await store.audit(50)
        finally:
            await store.close()

    entries = asyncio.run(newest())
    own = [entry for entry in entries if entry.get("policy") == new_id]
    assert [entry["action"] for entry in own] == ["delete", "create"]
    assert all(entry["by"] and entry["at"] for entry in own)
    assert own[1]["fingerprint"] == fingerprint([Edit("layer4", unit, Op.SCALE, 0.0) for unit in (1, 2)])
    assert any(entry["action"] == "stop" and entry["reason"] == "audit me" for entry in entries)


def _code(wire: Any, rpc: str, request: Any) -> str:
    import grpc

    try:
        wire.call(rpc, request)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def _outcome(wire: Any, image: bytes, policy: str) -> int:
    return int(predict(wire, image, policy).steering.outcome)
