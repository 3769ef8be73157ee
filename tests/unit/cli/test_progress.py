"""Progress of long work as people see it: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from miclip.cli import progress as shown
from miclip.progress import Progress, Stage, StageKind

ENCODER = Stage(StageKind.ENCODER, "layer4")


def test_without_a_terminal_a_stage_is_a_line_at_its_start_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.progress_bar() as report:
        for done in (20, 40, 60):
            report(Progress(ENCODER, done, 60, 1.5))
        report(Progress(Stage(StageKind.ATLAS), 0, 1))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["encoder layer4: 20 of 60", "encoder layer4: done, loss 1.500", "atlas: 0 of 1"]


def test_on_a_terminal_a_stage_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(shown, "err", Console(file=written, force_terminal=True, width=120))
    with shown.progress_bar() as report:
        report(Progress(ENCODER, 20, 60, 1.5))
        report(Progress(Stage(StageKind.ATLAS, subject="emoji-vit"), 0, 1))
    text = written.getvalue()
    for part in ("encoder layer4", "20/60", "loss 1.500", "emoji-vit: atlas", "0/1"):
        assert part in text, part
