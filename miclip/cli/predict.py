"""``miclip predict``: classify an image, with and without steering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from miclip.cli import output
from miclip.cli.backend import Backend
from miclip.cli.connect import backend
from miclip.cli.evidence import warn
from miclip.cli.localize import search_layers
from miclip.cli.options import DEFAULT_MODEL, Layers, Local, Method, Model, Reconstruct, TopK
from miclip.cli.policies import edits_text
from miclip.cli.specs import STEER_FORMS, ConceptSteer, PolicySteer, Steer, parse_steer, short_layer
from miclip.errors import InvalidInput, NotFound
from miclip.models.predictions import AppliedSteering, Prediction, PredictResult
from miclip.names import is_dictionary_layer
from miclip.steering.edits import Edit, Op

EVERY_LABEL = 1000
"""Labels asked of a prediction, so that the change of each shown one is known."""

Image = Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, GIF or BMP file.")]
Steers = Annotated[list[str] | None, typer.Option("--steer", "-s", help=f"Repeat for several: {STEER_FORMS}.")]
UnitCount = Annotated[int, typer.Option("--units-per-concept", min=1, max=1000, help='Units that "CONCEPT=2.0" turns.')]


class Steering(TypedDict):
    """What is asked for: edits of single units, or a policy."""

    edits: list[Edit] | None
    policy: str


@dataclass(frozen=True)
class SteeredLabel(Prediction):
    """A label after steering; ``change`` is the change of its probability."""

    change: float


@dataclass(frozen=True)
class Predicted:
    """What the command answers: the best labels without steering and with it."""

    model: str
    image: str
    edits: list[Edit]
    baseline: tuple[Prediction, ...]
    steered: tuple[SteeredLabel, ...]
    applied: AppliedSteering


def predict(
    image: Image,
    steer: Steers = None,
    model: Model = DEFAULT_MODEL,
    layers: Layers = None,
    units_per_concept: UnitCount = 5,
    method: Method = "attribution",
    reconstruct: Reconstruct = False,
    top_k: TopK = 5,
    local: Local = False,
    as_json: output.Json = False,
) -> None:
    """Classify an image; with --steer, show the answer before and after side by side.

    Examples:
        miclip predict photo.png

        miclip predict photo.png --steer "dog=2.0"

        miclip predict photo.png --steer "layer4:12*0" --steer "layer4:7+0.5"

        miclip predict photo.png --steer "dog=2.0" --layer layer4@topk-512

        miclip predict photo.png --steer policies/more-dogs
    """
    wanted = [parse_steer(value) for value in steer or []]
    data = read_image(image)
    with backend(local) as service:
        steering = resolve(service, model, wanted, layers or [], units_per_concept, method, reconstruct)
        result = service.predict([data], model=model, include_baseline=True, top_k=EVERY_LABEL, **steering)
    value = predicted(model, str(image), steering, result, top_k)
    output.emit(value, as_json, lambda: show(value))


def read_image(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        NotFound: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"IMAGE: cannot read {path}: {error.strerror}.", field="IMAGE") from error


def resolve(
    service: Backend,
    model: str,
    wanted: Sequence[Steer],
    layers: Sequence[str],
    top_k: int,
    method: str,
    reconstruct: bool = False,
) -> Steering:
    """Turn what was asked for into edits of single units, or one policy.

    Raises:
        InvalidInput: a policy together with anything else, or ``reconstruct`` for something else than features.
    """
    policies = [one.policy_id for one in wanted if isinstance(one, PolicySteer)]
    if policies and len(wanted) > 1:
        raise InvalidInput("--steer: a policy stands alone; leave out the other --steer options.", field="--steer")
    edits: list[Edit] = []
    for one in wanted:
        if isinstance(one, ConceptSteer):
            edits.extend(_units_of(service, model, one, layers, top_k, method))
        elif isinstance(one, Edit):
            edits.append(one)
    if reconstruct:
        edits = _reconstructed(edits)
    return Steering(edits=edits or None, policy=policies[0] if policies else "")


def predicted(model: str, image: str, steering: Steering, result: PredictResult, top_k: int) -> Predicted:
    """Return the best labels of each side of a prediction, and the change of the steered ones."""
    (answer,) = result.images
    before = {label.index: label.probability for label in answer.baseline}
    steered = tuple(
        SteeredLabel(**vars(label), change=label.probability - before.get(label.index, 0.0))
        for label in answer.predictions[:top_k]
    )
    return Predicted(model, image, steering["edits"] or [], answer.baseline[:top_k], steered, result.steering)


def show(value: Predicted) -> None:
    """Print a prediction; before and after side by side where it was steered."""
    title = f"What {value.model} sees in {Path(value.image).name}"
    if not (value.edits or value.applied.policy):
        table = output.table("label", ">%")
        for label in value.baseline:
            table.add_row(*_cells(label))
        output.show(title, table)
        return
    table = output.table("unsteered", ">%", "→ steered", ">%", ">change")
    for left, right in zip(value.baseline, value.steered, strict=True):
        table.add_row(*_cells(left), *_cells(right), f"{100 * right.change:+.1f}")
    output.show(title, table, _caption(value))


def _units_of(
    service: Backend, model: str, steer: ConceptSteer, layers: Sequence[str], top_k: int, method: str
) -> list[Edit]:
    where = search_layers(service, model, layers)
    result = service.localize([steer.concept], model=model, layers=where, top_k=top_k, method=method)
    (localization,) = result.localizations
    warn(steer.concept, localization.evidence)
    return [Edit(unit.layer, unit.unit, Op.SCALE, steer.factor) for unit in localization.units]


def _reconstructed(edits: Sequence[Edit]) -> list[Edit]:
    neurons = [edit for edit in edits if not is_dictionary_layer(edit.layer)]
    if neurons or not edits:
        what = f"{short_layer(neurons[0].layer)}/{neurons[0].unit} is a neuron" if neurons else "no feature is steered"
        text = f"--reconstruct: {what}; only features of a dictionary (LAYER@DICTIONARY) are reconstructed from."
        raise InvalidInput(text, field="--reconstruct", allowed="with features alone")
    return [replace(edit, reconstruct=True) for edit in edits]


def _caption(value: Predicted) -> str:
    applied = value.applied
    what = applied.policy or edits_text(value.edits)
    how = "" if applied.outcome == "applied" else f" · not applied: {applied.outcome.replace('_', ' ')}"
    return f"steered by {what}{how}"


def _cells(label: Prediction) -> tuple[str, str]:
    return output.text(label.label), f"{100 * label.probability:.1f}"
