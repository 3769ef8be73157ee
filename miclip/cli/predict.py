"""``miclip predict``: classify an image, with and without steering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from miclip.cli import output
from miclip.cli.answers import Backend, Label, Prediction
from miclip.cli.connect import backend
from miclip.cli.evidence import warn
from miclip.cli.localize import search_layers
from miclip.cli.options import DEFAULT_MODEL, Layers, Local, Method, Model, Reconstruct, TopK
from miclip.cli.policies import edits_text
from miclip.cli.specs import STEER_FORMS, ConceptSteer, PolicySteer, Steer, UnitSteer, parse_steer, short_layer
from miclip.errors import InvalidInput, NotFound
from miclip.names import is_dictionary_layer, parse_unit

EVERY_LABEL = 1000
"""Labels asked of a prediction, so that the change of each shown one is known."""

Image = Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, GIF or BMP file.")]
Steers = Annotated[list[str] | None, typer.Option("--steer", "-s", help=f"Repeat for several: {STEER_FORMS}.")]
UnitCount = Annotated[int, typer.Option("--units-per-concept", min=1, max=1000, help='Units that "CONCEPT=2.0" turns.')]


class Steering(TypedDict):
    """What is asked for: edits of single units, or a policy."""

    edits: list[UnitSteer]
    policy: str


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
        answer = service.predict(model, data, top_k=EVERY_LABEL, **steering)
    value = as_value(model, str(image), steering, answer, top_k)
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
    edits: list[UnitSteer] = []
    for one in wanted:
        if isinstance(one, ConceptSteer):
            edits.extend(_units_of(service, model, one, layers, top_k, method))
        elif isinstance(one, UnitSteer):
            edits.append(one)
    if reconstruct:
        edits = _reconstructed(edits)
    return Steering(edits=edits, policy=policies[0] if policies else "")


def as_value(model: str, image: str, steering: Steering, answer: Prediction, top_k: int) -> dict[str, Any]:
    """Return the JSON value of a prediction: the best labels of each side, and the change of the steered ones."""
    before = {label["label"]: label["probability"] for label in answer["baseline"]}
    steered = [
        {**label, "change": label["probability"] - before.get(label["label"], 0.0)} for label in answer["steered"]
    ]
    return {
        "model": model,
        "image": image,
        "edits": [vars(edit) for edit in steering["edits"]],
        "baseline": answer["baseline"][:top_k],
        "steered": steered[:top_k],
        "applied": answer["applied"],
    }


def show(value: dict[str, Any]) -> None:
    """Print a prediction; before and after side by side where it was steered."""
    title = f"What {value['model']} sees in {Path(value['image']).name}"
    if not (value["edits"] or value["applied"]["policy"]):
        shown = output.table("label", ">%")
        for label in value["baseline"]:
            shown.add_row(output.text(label["label"]), _percent(label))
        output.show(title, shown)
        return
    shown = output.table("unsteered", ">%", "→ steered", ">%", ">change")
    for left, right in zip(value["baseline"], value["steered"], strict=True):
        shown.add_row(*_cells(left), *_cells(right), f"{100 * right['change']:+.1f}")
    output.show(title, shown, _caption(value))


def _units_of(
    service: Backend, model: str, steer: ConceptSteer, layers: Sequence[str], top_k: int, method: str
) -> list[UnitSteer]:
    where = search_layers(service, model, layers)
    (found,) = service.localize(model, [steer.concept], layers=where, top_k=top_k, method=method)
    warn(steer.concept, found["evidence"])
    names = [parse_unit(located["unit"]) for located in found["units"]]
    return [UnitSteer(name.layer, name.unit, "scale", steer.factor) for name in names]


def _reconstructed(edits: Sequence[UnitSteer]) -> list[UnitSteer]:
    neurons = [edit for edit in edits if not is_dictionary_layer(edit.layer)]
    if neurons or not edits:
        what = f"{short_layer(neurons[0].layer)}/{neurons[0].unit} is a neuron" if neurons else "no feature is steered"
        text = f"--reconstruct: {what}; only features of a dictionary (LAYER@DICTIONARY) are reconstructed from."
        raise InvalidInput(text, field="--reconstruct", allowed="with features alone")
    return [replace(edit, reconstruct=True) for edit in edits]


def _caption(value: dict[str, Any]) -> str:
    applied = value["applied"]
    what = applied["policy"] or edits_text([UnitSteer(**edit) for edit in value["edits"]])
    how = "" if applied["outcome"] == "applied" else f" · not applied: {applied['outcome'].replace('_', ' ')}"
    return f"steered by {what}{how}"


def _cells(label: Label) -> tuple[str, str]:
    return output.text(label["label"]), _percent(label)


def _percent(label: Label) -> str:
    return f"{100 * label['probability']:.1f}"
