from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from miclip.errors import BadArtefact
from miclip.steering.edits import Edit, Op, fingerprint
from miclip.steering.policy import ConceptSteering, Policy

EDITS = (Edit("layer4", 3, Op.SCALE, 2.0), Edit("logits", 1, Op.CLAMP, -1.5))


def policy(**fields: object) -> Policy:
    return Policy.model_validate({"policy_id": "more-dogs", "model": "emoji-resnet", "edits": EDITS} | fields)


def test_json_keeps_every_field() -> None:
    before = policy(
        concept=ConceptSteering(text="dog", scale=2.0),
        ttl_seconds=60.0,
        traffic_share=0.25,
        norm_limit=3.0,
        created_by="key-1",
    )
    after = Policy.from_json(before.to_json())
    assert after == before
    assert after.edits == EDITS
    assert after.fingerprint == fingerprint(EDITS)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"policy_id": "a", "model": "b", "unknown": 1}', "\x00"])
def test_a_broken_or_newer_policy_is_refused(text: str) -> None:
    with pytest.raises(BadArtefact):
        Policy.from_json(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"traffic_share": 0.0},
        {"traffic_share": 1.1},
        {"traffic_share": float("nan")},
        {"ttl_seconds": -1.0},
        {"ttl_seconds": float("inf")},
        {"norm_limit": float("nan")},
        {"version": 0},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        policy(**fields)


def test_a_policy_without_ttl_never_expires_and_one_with_it_expires_then() -> None:
    now = datetime.now(UTC)
    assert policy().expire_time is None
    assert not policy().expired(now + timedelta(days=36_500))
    short = policy(ttl_seconds=60.0, update_time=now)
    assert short.expire_time == now + timedelta(seconds=60)
    assert not short.expired(now + timedelta(seconds=59))
    assert short.expired(now + timedelta(seconds=60))


def test_a_change_makes_the_next_version_with_a_new_etag() -> None:
    before = policy()
    after = before.changed(traffic_share=0.5)
    assert (after.version, after.traffic_share, after.create_time) == (2, 0.5, before.create_time)
    assert after.etag != before.etag
    assert after.update_time >= before.update_time
    with pytest.raises(ValidationError):
        before.changed(traffic_share=2.0)


def test_two_policies_never_share_an_etag() -> None:
    assert policy().etag != policy().etag


@given(st.text())
def test_a_full_share_takes_every_request_and_the_answer_is_stable(request_id: str) -> None:
    assert policy().applies_to(request_id)
    half = policy(traffic_share=0.5)
    assert half.applies_to(request_id) == half.applies_to(request_id)


def test_the_share_of_requests_is_the_share_asked_for_and_grows_without_moving() -> None:
    requests = [f"request-{index}" for index in range(10_000)]
    tenth = {request for request in requests if policy(traffic_share=0.1).applies_to(request)}
    third = {request for request in requests if policy(traffic_share=0.3).applies_to(request)}
    assert abs(len(tenth) - 1000) < 120
    assert abs(len(third) - 3000) < 200
    assert tenth < third


def test_two_policies_meet_different_requests() -> None:
    requests = [f"request-{index}" for index in range(2000)]
    first, second = policy(traffic_share=0.1), policy(policy_id="other", traffic_share=0.1)
    both = [request for request in requests if first.applies_to(request) and second.applies_to(request)]
    assert len(both) < 60  # 20 expected; 200 if they hashed alike
