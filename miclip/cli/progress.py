"""Progress of long work: what is being done, how far, how fast, and how long it will still take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from miclip.cli.output import err, note

Report = Callable[[str, int, int, float | None], None]
"""Called with the stage, how much of it is done, of how much, and the loss where there is one."""


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
    tasks = {}
    with Progress(*columns, console=err) as bars:

        def report(stage: str, done: int, total: int, loss: float | None = None) -> None:
            shown = "" if loss is None else f"loss {loss:.3f}"
            if stage not in tasks:  # a resumed stage starts where it was, so that the rate is that of this run
                tasks[stage] = bars.add_task(stage, total=total, completed=done, loss=shown)
            bars.update(tasks[stage], completed=done, total=total, loss=shown)

        yield report


@contextmanager
def _lines() -> Iterator[Report]:
    seen: set[str] = set()

    def report(stage: str, done: int, total: int, loss: float | None = None) -> None:
        if stage not in seen:
            seen.add(stage)
            note(f"{stage}: {done} of {total}")
        elif done >= total:
            note(f"{stage}: done" + ("" if loss is None else f", loss {loss:.3f}"))

    yield report
