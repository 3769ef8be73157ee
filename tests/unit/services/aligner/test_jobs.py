"""Alignment jobs in a real Redis: in order, one worker each, taken over, cancelled, limited, counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from miclip.errors import NotFound, Overloaded
from services.aligner.jobs import AlignmentChoices, Beat, JobProgress, JobSpec, JobState, JobStore
from services.node.redis import EmbeddedRedis
from tests.waiting import wait_until_async

LEASE_S = 1.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("r")
    with EmbeddedRedis(folder, folder / "data") as server:
        yield server.url


@pytest.fixture
async def jobs(redis_url: str) -> AsyncIterator[JobStore]:
    store = JobStore(redis_url, lease_s=LEASE_S)
    await store._redis.flushall()
    yield store
    await store.close()


def spec(job_id: str, age: float = 0.0) -> JobSpec:
    return JobSpec(
        job_id=job_id,
        model="m",
        probe_set="demo",
        layers=("a",),
        settings=AlignmentChoices(seed=0, steps=1, output_weight=1, input_weight=0, temperature=0.1),
        activate=False,
        created_at=time.time() - age,
        created_by="test",
    )


async def test_jobs_run_in_order_and_the_others_know_their_position(jobs: JobStore) -> None:
    for place, job_id in enumerate("abc"):
        await jobs.create(spec(job_id, age=10 - place), 16)
    claimed = await jobs.claim(1, 3)
    assert claimed is not None and claimed[0].spec.job_id == "a"
    assert await jobs.claim(1, 3) is None
    assert [(await jobs.get(job_id)).position for job_id in "abc"] == [0, 1, 2]
    assert await jobs.ids() == ["c", "b", "a"]
    await jobs.beat("a", claimed[1], {"state": JobState.SUCCEEDED, "atlas": "f" * 64})
    following = await jobs.claim(1, 3)
    assert following is not None and following[0].spec.job_id == "b"
    assert (await jobs.get("c")).position == 1
    assert (await jobs.get("a")).atlas == "f" * 64


async def test_one_job_is_never_given_to_two_workers(jobs: JobStore) -> None:
    await jobs.create(spec("a"), 16)
    claims = await asyncio.gather(*(jobs.claim(8, 3) for _ in range(20)))
    assert sum(claim is not None for claim in claims) == 1


async def test_a_silent_worker_loses_its_job_to_another(jobs: JobStore) -> None:
    await jobs.create(spec("a"), 16)
    _, first = await jobs.claim(1, 3) or pytest.fail("not claimed")
    assert await jobs.beat("a", first, {"state": JobState.RUNNING}) is Beat.HELD
    reported_for, reporting = 0.0, time.monotonic()
    while reported_for < 1.5 * LEASE_S:
        assert await jobs.beat("a", first, {"progress": JobProgress(done=1, total=2).model_dump_json()}) is Beat.HELD
        assert await jobs.claim(1, 3) is None, "a worker that reports keeps its job"
        await asyncio.sleep(LEASE_S / 20)
        reported_for = time.monotonic() - reporting
    _, second = await wait_until_async(lambda: jobs.claim(1, 3))
    assert (await jobs.get("a")).state is JobState.QUEUED
    assert await jobs.beat("a", first, {"state": JobState.SUCCEEDED}) is Beat.LOST
    assert await jobs.beat("a", second, {"state": JobState.RUNNING}) is Beat.HELD
    assert (await jobs.get("a")).state is JobState.RUNNING


async def test_a_job_whose_worker_is_lost_too_often_fails(jobs: JobStore) -> None:
    await jobs.create(spec("a"), 16)
    for _ in range(2):
        _, token = await jobs.claim(1, 2) or pytest.fail("not claimed")
        await jobs.release("a", token)
    assert await jobs.claim(1, 2) is None
    job = await jobs.get("a")
    assert job.state is JobState.FAILED
    assert "lost 2 times" in job.error and "it continues" in job.error


async def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(jobs: JobStore) -> None:
    await jobs.create(spec("a", age=1), 16)
    await jobs.create(spec("b"), 16)
    _, token = await jobs.claim(1, 3) or pytest.fail("not claimed")
    await jobs.beat("a", token, {"state": JobState.RUNNING})
    assert (await jobs.cancel("b")).state is JobState.CANCELLED
    assert (await jobs.cancel("a")).state is JobState.RUNNING
    assert await jobs.beat("a", token) is Beat.CANCEL
    await jobs.beat("a", token, {"state": JobState.CANCELLED})
    assert (await jobs.cancel("a")).state is JobState.CANCELLED, "an ended job stays as it is"
    assert await jobs.claim(8, 3) is None
    with pytest.raises(NotFound):
        await jobs.cancel("nope")


async def test_a_cancelled_job_of_a_lost_worker_is_not_started_again(jobs: JobStore) -> None:
    await jobs.create(spec("a"), 16)
    _, token = await jobs.claim(1, 3) or pytest.fail("not claimed")
    await jobs.beat("a", token, {"state": JobState.RUNNING})
    await jobs.cancel("a")
    await jobs.release("a", token)
    assert await jobs.claim(1, 3) is None
    assert (await jobs.get("a")).state is JobState.CANCELLED


async def test_too_many_open_jobs_are_refused_and_ended_ones_do_not_count(jobs: JobStore) -> None:
    await jobs.create(spec("a"), 2)
    await jobs.create(spec("b"), 2)
    with pytest.raises(Overloaded) as caught:
        await jobs.create(spec("c"), 2)
    assert caught.value.retry_after > 0
    await jobs.cancel("a")
    assert (await jobs.create(spec("c"), 2)).state is JobState.QUEUED


async def test_jobs_are_counted_by_their_state(jobs: JobStore) -> None:
    for job_id in "abc":
        await jobs.create(spec(job_id), 16)
    await jobs.cancel("b")
    counts = await jobs.count_by_state()
    assert counts.keys() == set(JobState)
    assert {state: count for state, count in counts.items() if count} == {JobState.QUEUED: 2, JobState.CANCELLED: 1}
