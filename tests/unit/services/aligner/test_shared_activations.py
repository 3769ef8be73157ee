"""An alignment that stopped on the command line goes on in the server, and the other way round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from miclip.alignment import Cancelled, EncoderSettings
from miclip.cli import align as command
from miclip.cli.sources import Inputs
from miclip.progress import Progress, Report, StageKind
from miclip.settings import settings
from services.aligner import worker
from services.aligner.jobs import AlignmentChoices, JobSpec
from tests.names import RESNET

IMAGES, CHUNK = 80, 64
LAYERS = ("logits",)
SET_ASIDE = 10  # held out, of 80
CHOSEN = {"steps": 2, "seed": 3}


@pytest.fixture
def images(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small images that the server knows as the probe set "small"."""
    folder = tmp_path / "small"
    folder.mkdir()
    for index in range(IMAGES):
        Image.new("RGB", (8, 8), (3 * index, 255 - 3 * index, 37 * index % 256)).save(folder / f"{index:02d}.png")
    monkeypatch.setenv("MICLIP_PROBE_SETS", f'{{"small": "{folder}"}}')
    monkeypatch.setenv("MICLIP_LABEL_SEEDS", "2")
    settings.cache_clear()
    return folder


def on_the_command_line(images: Path, monkeypatch: pytest.MonkeyPatch, report: Report) -> str:
    """Align as ``miclip align --images`` does; returns the id of the atlas."""

    @contextmanager
    def bar() -> Iterator[Report]:
        yield report

    monkeypatch.setattr(command, "progress_bar", bar)
    made = command._here(RESNET, "", images, "", None, "", list(LAYERS), Inputs(), 0, CHOSEN, False)
    return str(made["atlas"]).removeprefix("atlases/")


class _Told:
    """Stands for the worker's reporter, which needs Redis; may stop the work after the first images."""

    def __init__(self, *, stop: bool = False) -> None:
        self.stopping, self._stop = False, stop
        self.seen: list[Progress] = []

    def __call__(self, now: Progress) -> None:
        self.seen.append(now)
        self.stopping = self._stop and now.stage.kind is StageKind.ACTIVATIONS


def in_the_server(report: _Told) -> str:
    """Align as the worker of a job does; returns the id of the atlas."""
    defaults = EncoderSettings(**CHOSEN)
    choices = {name: getattr(defaults, name) for name in AlignmentChoices.model_fields}
    spec = JobSpec(
        job_id="a", model=RESNET, probe_set="small", layers=LAYERS, settings=AlignmentChoices(**choices),
        activate=False, created_at=time.time(), created_by="test",
    )  # fmt: skip
    return worker._align(spec, settings(), report)  # type: ignore[arg-type]


def kinds(seen: list[Progress]) -> set[StageKind]:
    return {now.stage.kind for now in seen} - {StageKind.LOADING}


def passed(seen: list[Progress]) -> list[int]:
    return [now.done for now in seen if now.stage.kind is StageKind.ACTIVATIONS]


def test_the_server_goes_on_with_what_the_command_line_began(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(now: Progress) -> None:
        if now.stage.kind is StageKind.ACTIVATIONS:
            raise KeyboardInterrupt

    with pytest.raises(typer.Exit):
        on_the_command_line(images, monkeypatch, interrupt)
    told = _Told()
    atlas = in_the_server(told)
    assert passed(told.seen) == [IMAGES - SET_ASIDE], "the first 64 images were done"
    again: list[Progress] = []
    assert on_the_command_line(images, monkeypatch, again.append) == atlas
    assert kinds(again) == {StageKind.ATLAS}, "all of the server's work is there"


def test_the_command_line_goes_on_with_what_the_server_began(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Cancelled):
        in_the_server(_Told(stop=True))
    seen: list[Progress] = []
    atlas = on_the_command_line(images, monkeypatch, seen.append)
    assert passed(seen) == [IMAGES - SET_ASIDE]
    told = _Told()
    assert in_the_server(told) == atlas
    assert kinds(told.seen) == {StageKind.ATLAS}


def test_both_keep_one_folder(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_server(_Told())
    one: Any = sorted(path.name for path in settings().activations_dir.iterdir())
    on_the_command_line(images, monkeypatch, lambda _now: None)
    assert sorted(path.name for path in settings().activations_dir.iterdir()) == one
    assert len(one) == 2, "the images, and the same recoloured"
    assert {path.name for path in settings().data_dir.iterdir()} == {"activations", "atlases"}
