"""Alignments: queued, run, watched, cancelled, taken over from a lost worker, and resumed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from miclip.errors import NotFound, Overloaded
from miclip.v1 import aligner_pb2 as pb
from services.aligner.eta import Estimate
from services.aligner.jobs import AlignmentChoices, Beat, JobSpec, JobState, JobStore, Progress
from services.node.redis import EmbeddedRedis

MODEL = "models/emoji-resnet"
QUEUED, RUNNING = pb.ALIGNMENT_STATE_QUEUED, pb.ALIGNMENT_STATE_RUNNING
ENDED = (pb.ALIGNMENT_STATE_SUCCEEDED, pb.ALIGNMENT_STATE_FAILED, pb.ALIGNMENT_STATE_CANCELLED)


# The store, against a real Redis


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("r")
    with EmbeddedRedis(folder, folder / "data") as server:
        yield server.url


@pytest.fixture
async def jobs(redis_url: str) -> AsyncIterator[JobStore]:
    store = JobStore(redis_url, lease_s=0.4)
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
    await asyncio.sleep(0.3)
    assert await jobs.beat("a", first, {"progress": Progress(done=1, total=2).model_dump_json()}) is Beat.HELD
    await asyncio.sleep(0.3)
    assert await jobs.claim(1, 3) is None, "a worker that reports keeps its job"
    await asyncio.sleep(0.3)
    _, second = await jobs.claim(1, 3) or pytest.fail("not taken over")
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


def test_the_time_left_counts_the_encoders_to_come() -> None:
    estimate = Estimate(layers=3, encoders=1)
    assert estimate.update("activations", 64, 128, 0.0) is None
    assert estimate.update("encoder a", 0, 100, 10.0) is None
    assert estimate.update("encoder a", 50, 100, 15.0) == pytest.approx(25)
    assert estimate.update("encoder b", 20, 100, 20.0) is None
    assert estimate.update("encoder b", 70, 100, 25.0) == pytest.approx(13)
    assert estimate.update("atlas", 0, 1, 30.0) is None


def test_the_time_left_counts_the_encoders_that_judge_labels() -> None:
    estimate = Estimate(layers=2, encoders=3)
    assert estimate.update("encoder a", 0, 100, 0.0) is None
    assert estimate.update("encoder a", 50, 100, 5.0) == pytest.approx(55)
    assert estimate.update("labels a", 20, 200, 12.0) is None
    assert estimate.update("labels a", 120, 200, 22.0) == pytest.approx(38)
    assert estimate.update("encoder b", 20, 100, 32.0) is None
    assert estimate.update("encoder b", 40, 100, 34.0) == pytest.approx(26)


# The service


@pytest.fixture(scope="module")
def probe_set(server: Any) -> str:
    """A probe set that the server knows, small enough for a test: some of the demo's drawings."""
    from miclip.demo.probe import demo_probe

    probe, folder = demo_probe(), Path(server.probe_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(0, len(probe.names), len(probe.names) // 128):
        _write(folder / f"{row:05d}.png", probe.load(row, row + 1)[0])
    return "small"


def _write(path: Path, image: Any) -> None:
    from PIL import Image

    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


@pytest.fixture
def create(wire: Any, probe_set: str) -> Iterator[Callable[..., pb.Alignment]]:
    """Start alignments; those that have not ended by the end of the test are cancelled."""
    names: list[str] = []

    def start(**settings: Any) -> pb.Alignment:
        request = pb.CreateAlignmentRequest(
            model=MODEL,
            probe_set=probe_set,
            layers=[f"{MODEL}/layers/logits", f"{MODEL}/layers/layer3"],
            settings=pb.AlignmentSettings(**settings),
        )
        made = wire.call("aligner/CreateAlignment", request).alignment
        names.append(made.name)
        return made

    yield start
    for name in names:
        wire.call("aligner/CancelAlignment", pb.CancelAlignmentRequest(name=name))
        watch(wire, name)


def watch(wire: Any, name: str) -> list[pb.Alignment]:
    """An alignment at every change until its end."""
    messages = wire.stream("aligner/WatchAlignment", pb.WatchAlignmentRequest(name=name), timeout=240)
    return [message.alignment for message in messages]


def get(wire: Any, name: str) -> pb.Alignment:
    return wire.call("aligner/GetAlignment", pb.GetAlignmentRequest(name=name)).alignment


def wait_until(condition: Callable[[], Any], within: float = 180.0) -> Any:
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so within {within} s"
        time.sleep(0.1)
    return value


def worker_of(server: Any, name: str) -> psutil.Process | None:
    """The process of an alignment's Ray task."""
    title = f"ray::alignment-{name.rpartition('/')[2]}"
    for process in psutil.Process(server.pid).children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(title[:40]):
                return process
        except psutil.Error:
            continue
    return None


@pytest.mark.slow
def test_an_alignment_runs_reports_and_writes_an_atlas(wire: Any, create: Any, probe_set: str) -> None:
    made = create(steps=20, seed=5)
    assert made.state == QUEUED
    assert [name.rpartition("/")[2] for name in made.layers] == ["layer3", "logits"], "in the model's order"
    assert (made.settings.steps, made.settings.seed) == (20, 5) and made.settings.temperature > 0
    seen = watch(wire, made.name)
    assert seen[-1].state == pb.ALIGNMENT_STATE_SUCCEEDED, seen[-1].error
    assert {one.state for one in seen[:-1]} <= {QUEUED, RUNNING}
    stages = list(dict.fromkeys(one.stage.split()[0] for one in seen if one.stage))
    assert stages[-1] == "atlas" and "activations" in stages
    assert all(one.done <= one.total for one in seen)
    assert seen == sorted(seen, key=lambda one: one.update_time.ToNanoseconds())
    atlas = wire.call("aligner/GetAtlas", pb.GetAtlasRequest(name=seen[-1].atlas)).atlas
    assert (atlas.model, atlas.probe_set, atlas.settings.steps) == (MODEL, probe_set, 20)
    assert [layer.name for layer in atlas.layers] == list(made.layers)
    assert not atlas.active, "it was not asked to be activated"
    listed = wire.call("aligner/ListAlignments", pb.ListAlignmentsRequest(page_size=1)).alignments
    assert listed[0].name == made.name, "newest first"
    assert watch(wire, made.name) == [listed[0]], "an ended alignment is sent once"
    again = watch(wire, create(steps=20, seed=5).name)
    assert again[-1].atlas == seen[-1].atlas, "the same inputs give the same atlas"
    assert {one.stage.split()[0] for one in again if one.stage} <= {"loading", "atlas"}, (
        "what was done is not done again"
    )


@pytest.mark.slow
def test_a_running_alignment_is_cancelled_and_the_next_one_runs(wire: Any, create: Any) -> None:
    long, following = create(steps=100_000, seed=7), create(steps=20, seed=5)
    assert get(wire, following.name).position >= 1
    wait_until(lambda: get(wire, long.name).stage.startswith("encoder"))
    wire.call("aligner/CancelAlignment", pb.CancelAlignmentRequest(name=long.name))
    end = watch(wire, long.name)[-1]
    assert end.state == pb.ALIGNMENT_STATE_CANCELLED and not end.atlas and not end.error
    end = watch(wire, following.name)[-1]
    assert end.state == pb.ALIGNMENT_STATE_SUCCEEDED, end.error


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_alignment_goes_on(wire: Any, create: Any, server: Any) -> None:
    name = create(steps=2000, seed=8).name
    wait_until(lambda: get(wire, name).stage.startswith("encoder"))
    worker = wait_until(lambda: worker_of(server, name))
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: get(wire, name).state == QUEUED or worker_of(server, name) not in (None, worker))
    wait_until(lambda: get(wire, name).stage.startswith("encoder") and get(wire, name).state == RUNNING)
    assert get(wire, name).state not in ENDED
    assert wire.call("aligner/EmbedTexts", pb.EmbedTextsRequest(texts=["dog"])).embeddings
