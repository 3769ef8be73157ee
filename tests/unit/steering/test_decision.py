"""The rules by which a request is steered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miclip.errors import InvalidInput, NotFound
from miclip.steering.compiled import CompiledPolicy, check_fit, compile_policy
from miclip.steering.decision import NOT_STEERED, Outcome, SteeredRequest, decide, decide_inline
from miclip.steering.edits import NO_EDITS, Edit, Op, compile_sample, fingerprint
from miclip.steering.policy import Policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZES = {"layer": 4}
DOUBLE = (Edit("layer", 1, Op.SCALE, 2.0),)
REQUEST = SteeredRequest("m", "request-1")


def compiled(edits: tuple[Edit, ...] = DOUBLE, **fields: object) -> CompiledPolicy:
    values = {"policy_id": "p", "model": "m", "edits": edits, "version": 3, "update_time": NOW} | fields
    return compile_policy(Policy.model_validate(values), SIZES, check=check_fit)


def test_a_policy_without_conditions_is_applied() -> None:
    policy = compiled()
    decision = decide(policy, (), REQUEST, NOW)
    assert (decision.outcome, decision.version, decision.stale) == (Outcome.APPLIED, 3, False)
    assert decision.edits is policy.edits
    assert decision.fingerprint == fingerprint(DOUBLE)


@pytest.mark.parametrize("stops", [{""}, {"m"}, {"", "m"}, {"m", "other"}])
def test_the_kill_switch_stops_policies_and_edits_of_requests(stops: set[str]) -> None:
    assert decide(compiled(), stops, REQUEST, NOW).outcome is Outcome.STOPPED
    assert decide_inline(compile_sample(DOUBLE), "f", stops, REQUEST).outcome is Outcome.STOPPED


def test_the_stop_of_another_model_stops_nothing_here() -> None:
    assert decide(compiled(), {"other"}, REQUEST, NOW).outcome is Outcome.APPLIED
    assert decide_inline(compile_sample(DOUBLE), "f", {"other"}, REQUEST).outcome is Outcome.APPLIED


def test_edits_that_change_nothing_are_none() -> None:
    nothing = (Edit("layer", 1, Op.SCALE, 1.0),)
    assert decide(compiled(nothing), (), REQUEST, NOW).outcome is Outcome.NONE
    assert decide_inline(NO_EDITS, "", (), REQUEST) == NOT_STEERED


def test_a_policy_is_applied_until_the_moment_it_expires() -> None:
    policy = compiled(ttl_seconds=60)
    assert decide(policy, (), REQUEST, NOW + timedelta(seconds=59.9)).outcome is Outcome.APPLIED
    assert decide(policy, (), REQUEST, NOW + timedelta(seconds=60)).outcome is Outcome.EXPIRED


@pytest.mark.parametrize(
    ("edit", "error", "text"),
    [
        (Edit("layer", 4, Op.SCALE, 2.0), NotFound, "has 4 units, no unit 4"),
        (Edit("other", 0, Op.SCALE, 2.0), NotFound, "no layer 'other'; it has layer"),
        (Edit("layer", 0, Op.ADD, 1e39), InvalidInput, "overflow"),
    ],
)
def test_edits_that_the_model_cannot_make_are_unfit_only_where_they_would_be_made(
    edit: Edit, error: type[Exception], text: str
) -> None:
    policy = compiled((edit,))
    decision = decide(policy, (), REQUEST, NOW)
    assert decision.outcome is Outcome.UNFIT
    assert isinstance(decision.problem, error)
    assert text in str(decision.problem)
    assert decide(policy, {""}, REQUEST, NOW).problem is None


@given(
    share=st.floats(0.01, 1.0),
    ttl=st.sampled_from([0.0, 60.0]),
    age=st.integers(0, 120),
    model=st.sampled_from(["m", "n"]),
    stops=st.sets(st.sampled_from(["", "m", "n"])),
    request_id=st.text(max_size=8),
    stale=st.booleans(),
)
def test_edits_are_made_where_all_conditions_hold_and_only_there(
    share: float, ttl: float, age: int, model: str, stops: set[str], request_id: str, stale: bool
) -> None:
    policy = compiled(traffic_share=share, ttl_seconds=ttl)
    request, now = SteeredRequest(model, request_id, stale), NOW + timedelta(seconds=age)
    decision = decide(policy, stops, request, now)
    lives, own = ttl == 0 or age < ttl, model == "m"
    holds = lives and own and policy.policy.applies_to(request_id) and not {"", "m"} & stops
    assert (decision.outcome is Outcome.APPLIED) == holds
    assert bool(decision.edits) == bool(decision.fingerprint) == holds
    assert decision.stale == stale
    assert decide(policy, stops, replace(request, stale=not stale), now).outcome is decision.outcome


@given(st.sets(st.sampled_from(["", "m"])), st.booleans())
def test_a_policy_that_is_not_there_is_not_found_whatever_else_holds(stops: set[str], stale: bool) -> None:
    decision = decide(None, stops, replace(REQUEST, stale=stale), NOW)
    assert (decision.outcome, decision.stale, decision.version) == (Outcome.NOT_FOUND, stale, 0)
