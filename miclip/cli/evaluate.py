"""``miclip evaluate``: how well the demo's units are described, and how well concepts are localized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miclip.cli import evaluation_tables, output
from miclip.cli.progress import progress_bar
from miclip.cli.report import check_report, write_report
from miclip.errors import InvalidInput
from miclip.progress import Progress, Stage
from miclip.settings import settings

if TYPE_CHECKING:
    from miclip.evaluation.subject import Subject

Models = Annotated[list[str] | None, typer.Option("--model", "-m", help="Model to judge; repeat. Default: the demo's.")]
Seeds = Annotated[int, typer.Option(min=1, max=20, help="Number of seeds.")]
Page = Annotated[Path | None, typer.Option("--report", help="Write an HTML report with pictures, too.")]
Directory = Annotated[Path | None, typer.Option("--directory", help="Keeps what an interrupted run has done.")]

DEMO = {"emoji-resnet": ("layer4", "layer3"), "emoji-vit": ("norm", "blocks.2")}
"""Penultimate and middle layer of the demo's models."""


def evaluate(
    models: Models = None,
    seeds: Seeds = 3,
    directory: Directory = None,
    page: Page = None,
    as_json: output.Json = False,
) -> None:
    """Measure descriptions and interventions on a drawing style that nothing was trained on.

    Every seed aligns anew. For each query (a class's name, a synonym, a keyword, a super-category) a method's five
    strongest units are doubled and removed; the change of the accuracy of the classes that it covers and the mean
    change of the others are in points. Takes up to twenty minutes; Ctrl-C keeps what is done.
    """
    from miclip.catalogue import load_clip
    from miclip.demo.probe import demo_probe
    from miclip.evaluation.run import evaluate as run
    from miclip.evaluation.subject import EvaluationSettings

    names = models or list(DEMO)
    if page is not None:
        check_report(page, names)
    store = directory or settings().data_dir / "evaluation"
    chosen = EvaluationSettings(seeds=tuple(range(seeds)))
    try:
        with progress_bar() as report:
            subjects = [_subject(name) for name in names]
            value = run(
                subjects, load_clip(), demo_probe, store, chosen,
                lambda stage, done, total: report(Progress(Stage.named(stage), done, total)), _vocabularies(),
            )  # fmt: skip
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    output.emit(value, as_json, lambda: evaluation_tables.show(value))
    if page is not None:
        write_report(value, page, "--report")
        output.note(f"Wrote {page}.")


def _vocabularies() -> dict[str, tuple[str, ...]]:
    from miclip.demo.queries import common_nouns
    from miclip.retrieval.vocabulary import builtin_concepts

    return {**{name: builtin_concepts(name) for name in ("emoji", "imagenet")}, "nouns": common_nouns()}


def _subject(name: str) -> Subject:
    from miclip.catalogue import load_target
    from miclip.demo.probe import held_out
    from miclip.demo.queries import demo_queries
    from miclip.evaluation.subject import Subject

    if name not in DEMO:
        names = ", ".join(DEMO)
        raise InvalidInput(f"--model: the evaluation images are the demo's; choose from {names}.", field="--model",
                           allowed=names)  # fmt: skip
    penultimate, middle = DEMO[name]
    images = held_out()
    return Subject(load_target(name), penultimate, middle, images, images.labels, demo_queries())
