"""The batcher, on a small real model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from miclip.models.preprocessing import Preprocessing
from miclip.models.target import TargetModel
from miclip.steering.edits import NO_EDITS, CompiledEdits, Edit, Op, assemble, compile_sample
from services.activation.batching import Batcher, Row
from tests.waiting import wait_until_async


@pytest.fixture
def model() -> TargetModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    return TargetModel("toy", net, labels="abcd", modules=["1"], preprocessing=Preprocessing(size=8))


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def edited(value: float) -> CompiledEdits:
    return compile_sample([Edit("1", 0, Op.SCALE, value), Edit("logits", 1, Op.ADD, value)])


async def test_mixed_requests_share_passes_and_get_their_own_answers(model: TargetModel) -> None:
    batcher, pixels = Batcher(model, max_rows=8, wait_s=0.2), images(12)
    requests = [
        [Row(pixels[3 * i + j], edited(float(i)) if i % 2 else NO_EDITS, ("1",) if i == 2 else ()) for j in range(3)]
        for i in range(4)
    ]
    answers = await asyncio.gather(*(batcher.run(rows) for rows in requests))
    assert batcher.batches == 2
    for rows, (outputs, times) in zip(requests, answers, strict=True):
        for row, output in zip(rows, outputs, strict=True):
            compiled = assemble([row.edits], model.layer_sizes)
            expected = model.forward(row.image[None], row.capture, compiled)
            torch.testing.assert_close(output.logits, expected.logits[0], rtol=1e-5, atol=1e-5)
            assert output.activations.keys() == set(row.capture)
            for layer in row.capture:
                torch.testing.assert_close(output.activations[layer], expected.activations[layer][0])
        assert times.queue >= 0
        assert times.forward > 0


async def test_a_lone_request_does_not_wait_for_company(model: TargetModel) -> None:
    batcher = Batcher(model, max_rows=8, wait_s=30)
    async with asyncio.timeout(5):
        await batcher.run([Row(images(1)[0])])


async def test_a_batch_waits_for_an_announced_request_but_not_for_ever(model: TargetModel) -> None:
    batcher = Batcher(model, max_rows=8, wait_s=0.3)

    async def late() -> None:
        with batcher.announced():
            await asyncio.sleep(0.05)
        await batcher.run([Row(images(1)[0])])

    await asyncio.gather(late(), batcher.run([Row(images(1)[0])]))
    assert batcher.batches == 1
    with batcher.announced():
        async with asyncio.timeout(5):
            await batcher.run([Row(images(1)[0])])


async def test_rows_of_cancelled_requests_are_never_run(model: TargetModel, monkeypatch: Any) -> None:
    batcher, gate, seen = Batcher(model, max_rows=2, wait_s=0), threading.Event(), []
    compute = Batcher._compute

    def slow(self: Batcher, rows: Sequence[Row]) -> Any:
        seen.append(len(rows))
        gate.wait(5)
        return compute(self, rows)

    monkeypatch.setattr(Batcher, "_compute", slow)
    running = asyncio.create_task(batcher.run([Row(images(1)[0])]))
    await wait_until_async(lambda: seen)
    doomed = [asyncio.create_task(batcher.run([Row(images(1)[0])])) for _ in range(20)]
    last = asyncio.create_task(batcher.run([Row(images(1)[0])]))
    await wait_until_async(lambda: len(batcher._queue) == len(doomed) + 1)
    for task in doomed:
        task.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(running, last)
    assert seen == [1, 1]


async def test_a_request_larger_than_a_batch_is_answered_whole_and_in_order(model: TargetModel) -> None:
    pixels = images(11)
    outputs, _ = await Batcher(model, max_rows=4, wait_s=0).run([Row(image) for image in pixels])
    expected = model.forward(pixels).logits
    torch.testing.assert_close(torch.stack([output.logits for output in outputs]), expected, rtol=1e-5, atol=1e-5)


async def test_a_failing_pass_fails_its_own_requests_and_not_the_next(model: TargetModel) -> None:
    batcher = Batcher(model, max_rows=4, wait_s=0)
    with pytest.raises(RuntimeError):
        await batcher.run([Row(torch.zeros(3, 8, 8)), Row(torch.zeros(3, 9, 9))])
    assert len((await batcher.run([Row(images(1)[0])]))[0]) == 1
