"""Alignments: queued, run, watched, cancelled, taken over from a lost worker, and resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from miclip.v1 import aligner_pb2 as pb
from tests.names import RESNET_NAME as MODEL
from tests.waiting import wait_until

QUEUED, RUNNING = pb.ALIGNMENT_STATE_QUEUED, pb.ALIGNMENT_STATE_RUNNING
ENDED = (pb.ALIGNMENT_STATE_SUCCEEDED, pb.ALIGNMENT_STATE_FAILED, pb.ALIGNMENT_STATE_CANCELLED)


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
    assert stages[-1] == "atlas" and len(stages) > 1
    known = {"loading", "activations", "outputs", "recoloured", "encoder", "labels", "atlas"}
    assert set(stages) <= known, "a short stage may go unseen"
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
    wait_until(lambda: get(wire, long.name).stage.startswith("encoder"), timeout_s=180)
    wire.call("aligner/CancelAlignment", pb.CancelAlignmentRequest(name=long.name))
    end = watch(wire, long.name)[-1]
    assert end.state == pb.ALIGNMENT_STATE_CANCELLED and not end.atlas and not end.error
    end = watch(wire, following.name)[-1]
    assert end.state == pb.ALIGNMENT_STATE_SUCCEEDED, end.error


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_alignment_goes_on(wire: Any, create: Any, server: Any) -> None:
    name = create(steps=2000, seed=8).name
    wait_until(lambda: get(wire, name).stage.startswith("encoder"), timeout_s=180)
    worker = wait_until(lambda: worker_of(server, name), timeout_s=180)
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: get(wire, name).state == QUEUED or worker_of(server, name) not in (None, worker), timeout_s=180)
    wait_until(lambda: get(wire, name).stage.startswith("encoder") and get(wire, name).state == RUNNING, timeout_s=180)
    assert get(wire, name).state not in ENDED
    assert wire.call("aligner/EmbedTexts", pb.EmbedTextsRequest(texts=["dog"])).embeddings
