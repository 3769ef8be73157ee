"""``miclip predict``: classify images, with and without steering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from miclip.cli import output, photos
from miclip.cli.backend import Backend
from miclip.cli.connect import backend
from miclip.cli.options import DEFAULT_MODEL, Layers, Local, Method, Model, Reconstruct, TopK
from miclip.cli.policies import edits_text
from miclip.cli.specs import ConceptSteer, Steer
from miclip.cli.steering import Steering, Steers, UnitCount, parse_steers, resolve
from miclip.models.predictions import AppliedSteering, ImagePrediction, Prediction
from miclip.steering.edits import Edit

EVERY_LABEL = 1000
"""Labels asked of a prediction, so that the change of each shown one is known."""

Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG, WebP, GIF or BMP files, or folders of them.")
]


@dataclass(frozen=True)
class SteeredLabel(Prediction):
    """A label after steering; ``change`` is the change of its probability."""

    change: float


@dataclass(frozen=True)
class Predicted:
    """What the command answers of an image: the best labels without steering and with it.

    ``named`` are the labels that steering names, however weak they are.
    """

    model: str
    image: str
    edits: list[Edit]
    baseline: tuple[Prediction, ...]
    steered: tuple[SteeredLabel, ...]
    named: tuple[SteeredLabel, ...]
    applied: AppliedSteering


def predict(
    images: Images,
    steer: Steers = None,
    model: Model = DEFAULT_MODEL,
    layers: Layers = None,
    units_per_concept: UnitCount = 5,
    method: Method = "attribution",
    reconstruct: Reconstruct = False,
    top_k: TopK = 5,
    local: Local = False,
    as_json: output.Json = False,
    as_csv: output.Csv = False,
) -> None:
    """Classify images; with --steer, show the answer before and after side by side.

    A folder stands for the images in it. With --json, one image file gives one value, more give a list.

    Examples:
        miclip predict photo.png

        miclip predict photos/ --csv

        miclip predict photo.png --steer "dog=2.0"

        miclip predict photo.png --steer "layer4/12*0" --steer "layer4/7+0.5"

        miclip predict photo.png --steer "dog=2.0" --layer layer4@topk-512

        miclip predict photo.png --steer policies/more-dogs
    """
    wanted = parse_steers(steer or [], model)
    files = photos.image_files(images)
    with backend(local) as service:
        steering = resolve(service, model, wanted, layers or [], units_per_concept, method, reconstruct)
        values = list(ask(service, model, files, steering, top_k, concepts_of(wanted)))
    alone = len(images) == 1 and not images[0].is_dir()
    sheet = csv_sheet(values) if as_csv else None
    output.emit(values[0] if alone else values, as_json, lambda: show(values[0]) if alone else show_all(values), sheet)


def ask(
    service: Backend, model: str, files: Sequence[Path], steering: Steering, top_k: int, concepts: Sequence[str] = ()
) -> Iterator[Predicted]:
    """Classify images, as many at a time as a request takes; the order stays.

    Raises:
        NotFound: a file cannot be read.
        InvalidInput: a file is no image; the text names it.
    """
    for names, images in photos.batches(files):
        with photos.named(names):
            result = service.predict(images, model=model, include_baseline=True, top_k=EVERY_LABEL, **steering)
        for name, answer in zip(names, result.images, strict=True):
            yield predicted(model, str(name), steering, answer, result.steering, top_k, concepts)


def concepts_of(wanted: Sequence[Steer]) -> list[str]:
    """Return the concepts among what is asked for."""
    return [one.concept for one in wanted if isinstance(one, ConceptSteer)]


def predicted(
    model: str,
    image: str,
    steering: Steering,
    answer: ImagePrediction,
    applied: AppliedSteering,
    top_k: int,
    concepts: Sequence[str] = (),
) -> Predicted:
    """Return the best labels of each side of a prediction, the change of the steered ones, and the labels named."""
    before = {label.index: label.probability for label in answer.baseline}
    every = [
        SteeredLabel(**vars(label), change=label.probability - before.get(label.index, 0.0))
        for label in answer.predictions
    ]
    asked = {concept.casefold() for concept in concepts}
    return Predicted(
        model=model,
        image=image,
        edits=steering["edits"] or [],
        baseline=answer.baseline[:top_k],
        steered=tuple(every[:top_k]),
        named=tuple(label for label in every if label.label.casefold() in asked),
        applied=applied,
    )


def show(value: Predicted) -> None:
    """Print a prediction; before and after side by side where it was steered."""
    title = f"What {value.model} sees in {Path(value.image).name}"
    if not _is_steered(value):
        table = output.table("label", ">%")
        for label in value.baseline:
            table.add_row(*_cells(label))
        output.show(title, table)
        return
    table = output.table("unsteered", ">%", "→ steered", ">%", ">change")
    for left, right in zip(value.baseline, value.steered, strict=True):
        table.add_row(*_cells(left), *_cells(right), f"{100 * right.change:+.1f}")
    for label in value.named:
        if label not in value.steered:
            table.add_row("", "", *_cells(label), f"{100 * label.change:+.1f}")
    output.show(title, table, _caption(value))


def show_all(values: Sequence[Predicted]) -> None:
    """Print predictions of several images, one row an image."""
    first = values[0]
    steered = _is_steered(first)
    steps = ("→ steered", ">%", ">change") if steered else ("runners-up",)
    table = output.table("image", "label", ">%", *steps)
    for value in values:
        best, *rest = value.baseline
        runners_up = ", ".join(f"{label.label} {100 * label.probability:.1f}" for label in rest[:2])
        after = value.steered[0]
        more = (*_cells(after), f"{100 * after.change:+.1f}") if steered else (output.text(runners_up),)
        table.add_row(output.text(value.image), *_cells(best), *more)
    output.show(f"What {first.model} sees in {len(values)} images", table, _caption(first) if steered else "")


def csv_sheet(values: Sequence[Predicted]) -> output.Sheet:
    """Return one row a label of an image, unsteered ones first; ``change`` is of the steered alone."""
    rows = [
        (value.image, side, rank, label.label, label.probability, label.logit, getattr(label, "change", None))
        for value in values
        for side, labels in _sides(value).items()
        for rank, label in enumerate(labels, 1)
    ]
    return output.Sheet(("image", "steering", "rank", "label", "probability", "logit", "change"), rows)


def _sides(value: Predicted) -> Mapping[str, Sequence[Prediction]]:
    return {"none": value.baseline, **({value.applied.outcome: value.steered} if _is_steered(value) else {})}


def _is_steered(value: Predicted) -> bool:
    return bool(value.edits or value.applied.policy)


def _caption(value: Predicted) -> str:
    applied = value.applied
    what = applied.policy or edits_text(value.edits)
    how = "" if applied.outcome == "applied" else f" · not applied: {applied.outcome.replace('_', ' ')}"
    return f"steered by {what}{how}"


def _cells(label: Prediction) -> tuple[str, str]:
    return output.text(label.label), f"{100 * label.probability:.1f}"
