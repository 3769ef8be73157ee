"""Policies, stops, changes and receipts come back from their messages as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miclip.errors import BadArtefact, InvalidInput
from miclip.evidence import Evidence, LabelShare
from miclip.steering.changes import ChangeKind, PolicyChange
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import ConceptSteering, Conditions, Policy, RequestedEdit, make_policy
from miclip.steering.receipt import Receipt, TargetLabel, UnitReceipt
from miclip.steering.stop import Stop
from miclip.v1 import steering_pb2 as pb
from miclip.wire.policies import read_change, read_policy, read_stop, write_change, write_policy, write_stop
from miclip.wire.receipts import read_receipt, write_receipt

LAYERS = st.sampled_from(["layer1", "layer4", "layer4/dictionaries/topk-8"])
VALUES = st.floats(-100, 100)
EDITS = st.builds(Edit, LAYERS, st.integers(0, 200), st.sampled_from(Op), VALUES, st.booleans())
REQUESTED = st.builds(
    RequestedEdit,
    LAYERS,
    st.integers(0, 200),
    st.sampled_from([Op.ADD, Op.CLAMP]),
    VALUES,
    relative_to_max=st.just(True),
)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
FLOATS32 = st.floats(0, 1, width=32)
EVIDENCE = st.builds(
    Evidence, FLOATS32, FLOATS32, st.booleans(), st.tuples(st.builds(LabelShare, st.text(max_size=4), FLOATS32))
)
CONCEPTS = st.builds(
    ConceptSteering,
    text=st.text(max_size=9),
    scale=st.none() | VALUES,
    top_k=st.none() | st.integers(0, 1000),
    layers=st.lists(LAYERS, max_size=2).map(tuple),
    method=st.sampled_from([None, "attribution", "filter", "pattern", "causal"]),
    reconstruct=st.booleans(),
    evidence=st.none() | EVIDENCE,
)
POLICIES = st.builds(
    Policy,
    policy_id=st.sampled_from(["a", "more-dogs"]),
    model=st.just("m"),
    concept=st.none(),
    requested=st.just(()) | st.tuples(REQUESTED),
    edits=st.lists(EDITS, min_size=1, max_size=3).map(tuple),
    ttl_seconds=st.integers(0, 1000).map(float),
    traffic_share=st.floats(0, 1, exclude_min=True),
    norm_limit=st.floats(0, 1000),
    description=st.text(max_size=9),
    version=st.integers(1, 2**40),
    etag=st.text("0123456789abcdef", max_size=8),
    create_time=MOMENTS,
    update_time=MOMENTS,
    created_by=st.text(max_size=4),
)


@given(POLICIES, st.none() | CONCEPTS)
def test_a_policy_comes_back_from_its_message_and_from_its_json(
    policy: Policy, concept: ConceptSteering | None
) -> None:
    policy = policy.replaced(concept=concept, requested=() if concept else policy.requested)
    assert read_policy(write_policy(policy)) == policy
    assert Policy.from_json(policy.to_json()) == policy


def test_every_condition_has_a_field_of_its_name_in_the_message() -> None:
    assert {*Conditions.model_fields} <= {*pb.Policy.DESCRIPTOR.fields_by_name}


def test_a_policy_by_hand_asks_for_its_edits_and_one_by_a_concept_for_the_concept() -> None:
    edits = (Edit("layer4", 1, Op.SCALE, 2.0),)
    assert write_policy(make_policy(model="m", edits=edits)).edits.edits[0].layer == "models/m/layers/layer4"
    relative = make_policy(model="models/m", edits=[RequestedEdit("layer4", 1, Op.ADD, 0.5, relative_to_max=True)])
    assert write_policy(relative).edits.edits[0].relative_to_max
    assert not relative.edits
    by_concept = write_policy(make_policy(model="m", concept="dog", scale=2.0, layers=["layer4"]))
    assert (by_concept.WhichOneof("steering"), [*by_concept.concept.layers]) == ("concept", ["models/m/layers/layer4"])


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"traffic_share": 0.0}, "policy.traffic_share", "above 0 to 1"),
        ({"traffic_share": float("nan")}, "policy.traffic_share", "above 0 to 1"),
        ({"ttl_seconds": -1}, "policy.ttl_seconds", "0 to 31536000"),
        ({"norm_limit": float("inf")}, "policy.norm_limit", "0 to 1000"),
        ({"no_such_condition": 1}, "policy.no_such_condition", "not permitted"),
        ({"method": "magic"}, "policy.concept.method", "'attribution'"),
    ],
)
def test_a_condition_out_of_range_is_refused_by_name_and_range(
    fields: dict[str, object], field: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_policy(model="m", concept="dog", scale=2.0, **fields)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert allowed in caught.value.allowed


def test_a_negative_unit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidInput):
        write_policy(make_policy(model="m", edits=[Edit("layer4", -1, Op.SCALE, 2.0)]))


@pytest.mark.parametrize("broken", ["operation", "version"])
def test_a_policy_that_this_program_is_too_old_for_says_so(broken: str) -> None:
    message = write_policy(make_policy(model="m", edits=[Edit("layer4", 1, Op.SCALE, 2.0)]))
    if broken == "operation":
        message.resolved_edits[0].ClearField("scale")
    else:
        message.version = 0
    with pytest.raises(BadArtefact, match="upgrade"):
        read_policy(message)


@given(st.builds(Stop, model=st.sampled_from(["", "m"]), reason=st.text(), stop_time=MOMENTS, stopped_by=st.text()))
def test_a_stop_comes_back_from_its_message(stop: Stop) -> None:
    assert read_stop(write_stop(stop)) == stop


NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(policy_id="p", model="m", edits=(Edit("layer4", 1, Op.ADD, 1.0),), create_time=NOW, update_time=NOW)


@pytest.mark.parametrize(
    "change",
    [
        PolicyChange(ChangeKind.CREATED, "m", "p", POLICY),
        PolicyChange(ChangeKind.UPDATED, "m", "p", POLICY.changed(ttl_seconds=5.0, update_time=NOW + timedelta(1))),
        PolicyChange(ChangeKind.DELETED, "m", "p"),
        PolicyChange(ChangeKind.EXPIRED, "m", "p"),
        PolicyChange(ChangeKind.STOPPED, "", stop=Stop(reason="r", stop_time=NOW, stopped_by="k")),
        PolicyChange(ChangeKind.RESUMED, "m"),
    ],
)
def test_a_change_comes_back_from_its_message(change: PolicyChange) -> None:
    assert read_change(write_change(change)) == change


def test_a_change_of_a_kind_of_a_newer_server_is_other() -> None:
    assert read_change(pb.PolicyChange(kind=99)).kind is ChangeKind.OTHER  # type: ignore[arg-type]


def test_a_receipt_comes_back_from_its_message() -> None:
    unit = UnitReceipt("models/m/layers/a/units/1", 0.5, 0.25, -0.125)
    targets = (TargetLabel("dog", 0.75, 12, -0.5), TargetLabel("wolf", 0.25, 4, 0.25))
    receipt = Receipt("dog", -0.1, 0.01, 0.9, 0.02, 0.03, 0.4, (unit,), 60, 16, 1.5, targets, "drawings")
    assert read_receipt(write_receipt(receipt)) == receipt
