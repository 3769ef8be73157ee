"""``miclip evaluate``: how well the demo's units are described, and how well concepts are localized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.cli.progress import progress_bar
from miclip.errors import InvalidInput
from miclip.settings import settings

if TYPE_CHECKING:
    from rich.table import Table

    from miclip.evaluation.run import Subject

Models = Annotated[list[str] | None, typer.Option("--model", "-m", help="Model to judge; repeat. Default: the demo's.")]
Seeds = Annotated[int, typer.Option(min=1, max=20, help="Number of seeds.")]
Directory = Annotated[Path | None, typer.Option("--directory", help="Keeps what an interrupted run has done.")]

DEMO = {"emoji-resnet": ("layer4", "layer3"), "emoji-vit": ("norm", "blocks.2")}
"""Penultimate and middle layer of the demo's models."""


def evaluate(
    models: Models = None, seeds: Seeds = 3, directory: Directory = None, as_json: output.Json = False
) -> None:
    """Measure descriptions and interventions on a drawing style that nothing was trained on.

    Every seed aligns anew. For each class the five strongest units of a method are doubled and removed; the change of
    the class's accuracy and the mean change of the others are in points. Takes some minutes; Ctrl-C keeps what is done.
    """
    from miclip.catalogue import load_clip
    from miclip.demo.probe import demo_probe
    from miclip.evaluation.run import EvaluationSettings
    from miclip.evaluation.run import evaluate as run

    store = directory or settings().data_dir / "evaluation"
    chosen = EvaluationSettings(seeds=tuple(range(seeds)))
    try:
        with progress_bar() as report:
            subjects = [_subject(name) for name in models or list(DEMO)]
            value = run(subjects, load_clip(), demo_probe, store, chosen,
                        lambda stage, done, total: report(stage, done, total, None))  # fmt: skip
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    output.emit(value, as_json, lambda: show(value))


def show(value: dict[str, Any]) -> None:
    """Print the figures as tables, two a model."""
    for name, target in value["targets"].items():
        output.show(f"{name} · held-out top-1 {target['held_out_top1']:.1f} %\n\nlabels right, %", _labels(target))
        output.show("\nchange of accuracy in points, five units a class", _interventions(target), _NOTE)


_NOTE = """\
logits: label = own class · elsewhere: label among the five classes that the unit drives most (default: without
abstentions) · shuffled: another class's units · weight × activation and oracle are told what no search knows
"""


def _labels(target: dict[str, Any]) -> Table:
    methods = list(dict.fromkeys(name for figures in target["layers"].values() for name in figures["labels"]))
    shown = output.table("layer", *(f">{_words(name)}" for name in methods))
    for layer, figures in target["layers"].items():
        shown.add_row(output.text(layer), *(f"{figures['labels'][name]:.1f}" for name in methods))
    return shown


def _interventions(target: dict[str, Any]) -> Table:
    columns = [f">{scale} {what}" for scale in ("×2", "×0") for what in ("target", "others", "specific")]
    shown = output.table("layer", "localized by", *columns)
    for layer, figures in target["layers"].items():
        for method, scales in figures.get("localization", {}).items():
            cells = [cell for scale in ("scale_2", "scale_0") for cell in _cells(scales[scale])]
            shown.add_row(output.text(layer), _words(method), *cells)
    return shown


def _cells(change: dict[str, Any]) -> tuple[str, str, str]:
    low, high = change["target_interval"]
    target = f"{change['target']:+.1f} ±{(high - low) / 2:.1f}"
    return target, f"{change['others']:+.1f}", f"{change['specificity']:.2f}"


def _words(method: str) -> str:
    return method.replace("_x_", " × ").replace("_", " ")


def _subject(name: str) -> Subject:
    from miclip.catalogue import load_target
    from miclip.demo.probe import held_out
    from miclip.evaluation.run import Subject

    if name not in DEMO:
        names = ", ".join(DEMO)
        raise InvalidInput(f"--model: the evaluation images are the demo's; choose from {names}.", field="--model",
                           allowed=names)  # fmt: skip
    penultimate, middle = DEMO[name]
    images = held_out()
    return Subject(load_target(name), penultimate, middle, images, images.labels)
