"""Progress of long work: what is being done, how far, how fast, and how long it will still take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from miclip.cli.output import err, note
from miclip.progress import Progress, Report, Stage


class Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or a dash before there is one."""
        speed = task.finished_speed or task.speed
        return Text("–/s" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="cyan")


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Show one bar a stage on standard error; without a terminal, one line a stage."""
    with _bars() if err.is_terminal else _lines() as report:
        yield report


@contextmanager
def _bars() -> Iterator[Report]:
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("[dim]{task.fields[loss]}"),
    )
    tasks: dict[Stage, TaskID] = {}
    with Bars(*columns, console=err) as bars:

        def report(now: Progress) -> None:
            shown = "" if now.loss is None else f"loss {now.loss:.3f}"
            if now.stage not in tasks:  # a resumed stage starts where it was, so that the rate is that of this run
                tasks[now.stage] = bars.add_task(str(now.stage), total=now.total, completed=now.done, loss=shown)
            bars.update(tasks[now.stage], completed=now.done, total=now.total, loss=shown)

        yield report


@contextmanager
def _lines() -> Iterator[Report]:
    seen: set[Stage] = set()

    def report(now: Progress) -> None:
        if now.stage not in seen:
            seen.add(now.stage)
            note(f"{now.stage}: {now.done} of {now.total}")
        elif now.done >= now.total:
            note(f"{now.stage}: done" + ("" if now.loss is None else f", loss {now.loss:.3f}"))

    yield report
