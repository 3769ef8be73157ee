"""What a command is told of a model that is not known yet: where it comes from, and what it does not say itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miclip.cli import output
from miclip.cli.specs import full_layer
from miclip.errors import AlreadyExists, InvalidInput

if TYPE_CHECKING:
    from miclip.models.sources import Given
    from miclip.models.target import TargetModel

FORMS = (
    "timm/NAME, torchvision/NAME, open_clip/NAME, transformers/FOLDER_OR_NAME, a transformers model's folder, or "
    "file.py:factory"
)

Source = Annotated[str, typer.Option("--model", "-m", help=f"{FORMS}; or a model that is known.")]
Weights = Annotated[str, typer.Option(help="File (safetensors or a torch checkpoint of tensors), or `hub`.")]
Labels = Annotated[Path | None, typer.Option(help="Names of the outputs: JSON list, or one a line. 1000: ImageNet's.")]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer", "--layers", "-l", help="Layer, or LAYER@DICTIONARY; repeat for several, or `all`.",
        parser=full_layer, metavar="LAYER",
    ),
]  # fmt: skip
Size = Annotated[int, typer.Option(min=0, max=4096, help="Edge of the model's input in pixels; default its own.")]
Mean = Annotated[str, typer.Option(help="Mean that inputs are normalised by, 0 to 1: one number, or three: R,G,B.")]
Std = Annotated[str, typer.Option(help="Deviation that inputs are normalised by, likewise.")]


@dataclass(frozen=True)
class Inputs:
    """How images become inputs, where the user says so: the options --size, --mean and --std."""

    size: int = 0
    mean: str = ""
    std: str = ""

    def __bool__(self) -> bool:
        return bool(self.size or self.mean or self.std)


def given(labels: Path | None, layers: list[str], inputs: Inputs) -> Given:
    """Read the options; raises InvalidInput."""
    from miclip.models.labels import read_labels
    from miclip.models.sources import Given

    names = read_labels(labels) if labels else ()
    mean, std = _numbers(inputs.mean, "--mean"), _numbers(inputs.std, "--std")
    if any(value <= 0 for value in std):
        raise InvalidInput("--std: a deviation is greater than 0.", field="--std", allowed="numbers greater than 0")
    return Given(names, [layer for layer in layers if layer != "all"], inputs.size, mean, std)


def target_of(
    model: str, weights: str, labels: Path | None, name: str, layers: list[str], inputs: Inputs
) -> TargetModel:
    """Return the model; one named by its source is imported once, and kept so that it can be served.

    Raises:
        InvalidInput: the options do not fit the model.
        AlreadyExists: another model has the id.
    """
    from miclip.catalogue import Catalogue
    from miclip.models.sources import default_id, is_source, needs_weights

    catalogue = Catalogue()
    if model in catalogue.model_ids() or not is_source(model):
        if weights or labels or name or inputs:
            text = f"--weights, --labels, --id, --size, --mean and --std are for a model that --model names by {FORMS}."
            raise InvalidInput(text, field="--weights")
        return catalogue.load_target(model)
    chosen = given(labels, layers, inputs)
    known = name or default_id(model)
    if known in catalogue.model_ids():
        target = catalogue.load_target(known)
        _check_same(target, model, weights, chosen)
        output.note(f"Using the model that was imported as {known}; another --id imports it anew.")
        return target
    if not weights and needs_weights(model):
        raise InvalidInput("--weights: name a local file, or `hub` for the published weights.", field="--weights",
                           allowed="a file, or hub")  # fmt: skip
    imported = catalogue.import_model(
        known, model, weights, labels=chosen.labels, layers=chosen.layers, size=chosen.size, mean=chosen.mean,
        std=chosen.std,
    )  # fmt: skip
    if not needs_weights(model):
        output.note(_said(imported))
    return catalogue.load_target(known)


def _check_same(known: TargetModel, source: str, weights: str, chosen: Given) -> None:
    """Raise AlreadyExists where the source would now give another model than the one that has the id.

    Published weights are not fetched for that; nor is a factory asked for weights, which it may draw anew each time.
    """
    from dataclasses import replace

    from miclip.models.factory import is_factory
    from miclip.models.loaders import HUB, as_target, load_foreign
    from miclip.models.sources import needs_weights

    if weights.startswith(HUB) or (not weights and (needs_weights(source) or is_factory(source))):
        return
    if not (chosen.labels or source.startswith("open_clip/")):
        chosen = replace(chosen, labels=known.labels)
    given = as_target(known.name, *load_foreign(source, weights, chosen))
    if (given.weights_sha256, given.labels) != (known.weights_sha256, known.labels):
        text = f"There is a model {known.name!r} already, of other weights or labels; choose another --id."
        raise AlreadyExists(text, field="--id")


def _said(target: TargetModel) -> str:
    """How the model will be given images, which a folder or a factory may not have said."""
    into = target.preprocess
    mean, std = (",".join(f"{value:.3g}" for value in values) for values in (into.mean, into.std))
    layers = [name for name in target.layers if name != "logits"]
    return (f"Imported as {target.name}: {len(target.labels)} labels, layers {layers[0]} to {layers[-1]}, input "
            f"{into.size}×{into.size}, mean {mean}, std {std}.")  # fmt: skip


def _numbers(text: str, option: str) -> tuple[float, ...]:
    """Read one number for all channels, or three."""
    try:
        values = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        values = (0.0,) * 2
    if len(values) not in (0, 1, 3):
        allowed = "one number, or three with commas: 0.485,0.456,0.406"
        raise InvalidInput(f"{option}: {text[:80]!r} cannot be read. Use {allowed}.", field=option, allowed=allowed)
    return values * 3 if len(values) == 1 else values
