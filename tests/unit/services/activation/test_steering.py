"""What a request under a policy costs, and what it gets, on a real store and a small real model."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch
from torch import nn

from miclip.errors import InvalidInput, NotFound
from miclip.models.preprocessing import Preprocessing
from miclip.models.target import TargetModel
from miclip.steering import compiled, edits
from miclip.steering.decision import Outcome
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import Policy
from miclip.v1 import resources_pb2
from services.activation import steering
from services.activation.batching import Batcher, Row
from services.activation.steering import RequestSteering
from services.rpc.auth import Principal
from services.rpc.servicer import Call
from services.state.keys import ALL_SCOPES
from services.state.policy_cache import PolicyCache
from services.state.policy_store import Store

AUDIT = {"action": "test"}
NAME = "policies/p"


@pytest.fixture
async def policies(store: Store) -> AsyncIterator[PolicyCache]:
    cache = PolicyCache(store)
    cache.start()
    yield cache
    await cache.stop()


@pytest.fixture
def model() -> TargetModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    return TargetModel("toy", net, labels="abcd", modules=["1"], preprocessing=Preprocessing(size=8))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often edits are compiled, validated and hashed."""
    made: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        real = getattr(module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            made[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    for module in (edits, compiled, steering):
        for name in ("compile_sample", "compile_edits", "validate_edits", "fingerprint", "combined"):
            if hasattr(module, name):
                count(module, name)
    return made


def policy(unit: int = 1, model: str = "toy", **fields: Any) -> Policy:
    return Policy(policy_id="p", model=model, edits=(Edit("1", unit, Op.SCALE, 0.0),), **fields)


def call(request_id: str = "r") -> Call:
    return Call("Predict", request_id, Principal("key", ALL_SCOPES), True)


async def test_requests_under_a_policy_compile_validate_and_hash_nothing_after_the_first(
    store: Store, policies: PolicyCache, model: TargetModel, counts: Counter[str]
) -> None:
    steered, batcher = RequestSteering(policies), Batcher(model, max_rows=4, wait_s=0)
    stored = policy()
    await store.create_policy(stored, AUDIT, 10)

    async def ask(number: int) -> str:
        decision = await steered.by_policy(NAME, model, call(f"r-{number}"))
        outputs, _ = await batcher.run([Row(torch.ones(3, 8, 8), decision.edits)])
        assert len(outputs) == 1
        return decision.fingerprint

    first = {await ask(0)}
    assert counts["compile_sample"] == counts["validate_edits"] == counts["fingerprint"] == 1
    counts.clear()
    assert set(await asyncio.gather(*map(ask, range(50)))) == first
    assert not counts
    await store.replace_policy(stored.changed(edits=(Edit("1", 2, Op.SCALE, 0.0),)), stored.etag, AUDIT)
    async with asyncio.timeout(5):
        while await ask(51) in first:
            await asyncio.sleep(0.01)
    assert counts["compile_sample"] == counts["fingerprint"] == 1


async def test_first_requests_that_come_together_compile_once(
    store: Store, policies: PolicyCache, model: TargetModel, counts: Counter[str]
) -> None:
    await store.create_policy(policy(), AUDIT, 10)
    steered = RequestSteering(policies)
    first = asyncio.create_task(steered.by_policy(NAME, model, call()))
    others = [asyncio.create_task(steered.by_policy(NAME, model, call())) for _ in range(20)]
    await asyncio.sleep(0)
    first.cancel()  # the others do not depend on the request that began
    decisions = await asyncio.gather(*others)
    assert {decision.outcome for decision in decisions} == {Outcome.APPLIED}
    assert counts["compile_sample"] == 1


async def test_a_policy_that_does_not_fit_the_model_is_refused_each_time(
    store: Store, policies: PolicyCache, model: TargetModel
) -> None:
    await store.create_policy(policy(unit=6), AUDIT, 10)
    steered = RequestSteering(policies)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="0 to 5") as caught:
            await steered.by_policy(NAME, model, call())
        assert caught.value.field == "policy[0].unit"


async def test_a_policy_of_another_model_and_one_that_is_not_there_are_refused(
    store: Store, policies: PolicyCache, model: TargetModel
) -> None:
    await store.create_policy(policy(model="other"), AUDIT, 10)
    steered = RequestSteering(policies)
    with pytest.raises(InvalidInput, match="steers models/other, not models/toy"):
        await steered.by_policy(NAME, model, call())
    with pytest.raises(NotFound, match="does not exist"):
        await steered.by_policy("policies/none", model, call())


@pytest.mark.parametrize("count", [1, 6])
async def test_edits_of_a_request_are_compiled_for_it(policies: PolicyCache, model: TargetModel, count: int) -> None:
    messages = [resources_pb2.Edit(layer="models/toy/layers/1", unit=i % 6, add=1.0) for i in range(count)]
    decision = await RequestSteering(policies).inline(messages, model, lambda *_: 0.0, call())
    assert decision.outcome is Outcome.APPLIED
    assert len(decision.edits.layers["1"].units) == min(count, 6)
