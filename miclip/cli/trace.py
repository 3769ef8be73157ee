"""``miclip trace``: where a prediction goes wrong, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miclip.cli import output
from miclip.cli.backend import Backend
from miclip.cli.connect import backend
from miclip.cli.options import DEFAULT_MODEL, Local, Model
from miclip.cli.photos import Image, named, read_image
from miclip.errors import InvalidInput

if TYPE_CHECKING:
    from miclip.models.predictions import Prediction
    from miclip.retrieval.results import LayerTrace

_SHOWN = 5  # labels of the prediction

Against = Annotated[list[str], typer.Option("--against", "-a", help="Wrong concept; repeat for several.")]
Expected = Annotated[str, typer.Option("--expected", "-e", help="Right concept; default: what the model predicts.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the scores into this PNG file (needs miclip\\[plot]).")]


@dataclass(frozen=True)
class Takeover:
    """The first layer from which on a wrong concept stays above the expected one; None where it ends below."""

    concept: str
    layer: str | None


@dataclass(frozen=True)
class Traced:
    """What the command answers; the expected concept is the first of the concepts that the layers' scores are of.

    ``labels`` are the model's labels that stand for the concepts at the logits.
    """

    model: str
    image: str
    concepts: tuple[str, ...]
    labels: tuple[str, ...]
    layers: tuple[LayerTrace, ...]
    takeovers: tuple[Takeover, ...]
    predictions: tuple[Prediction, ...]
    atlas: str


def trace(
    image: Image,
    against: Against,
    expected: Expected = "",
    model: Model = DEFAULT_MODEL,
    plot: Plot = None,
    local: Local = False,
    as_json: output.Json = False,
    as_csv: output.Csv = False,
) -> None:
    """Follow an image through the model: at which layer a wrong concept takes over from the right one.

    Before the logits, scores are cosines of the image and the concept. At the logits they are the probabilities of the
    labels, so the last line agrees with the prediction.

    Examples:
        miclip trace photo.png --expected dog --against cat

        miclip trace photo.png --against cat --against wolf --plot trace.png
    """
    if plot is not None:
        from miclip.pictures.canvas import check_png

        check_png(plot, "--plot")
    data = read_image(image)
    with backend(local) as service, named([image]):
        value = ask(service, model, str(image), data, expected, against)
    if plot is not None:
        from miclip.cli.plot import plot_trace

        plot_trace(plot, _title(value), value.concepts, value.layers)
    output.emit(value, as_json, lambda: show(value), csv_sheet(value) if as_csv else None)


def ask(service: Backend, model: str, image: str, data: bytes, expected: str, against: Sequence[str]) -> Traced:
    """Trace an image.

    Args:
        service: Who answers.
        model: Target model.
        image: The image's name.
        data: Its encoded bytes.
        expected: Right concept; empty means the model's prediction.
        against: Wrong concepts.

    Raises:
        InvalidInput: a concept is given twice, or the expected one is also a wrong one.
    """
    right, wrong = expected.strip(), [text.strip() for text in against]
    if not right:
        (prediction,) = service.predict([data], model=model, top_k=1).images
        right = prediction.predictions[0].label
    if right in wrong:
        raise _same(right, said_by_model=not expected.strip())
    result = service.trace([data], model=model, concepts=[right, *wrong], top_k=_SHOWN)
    (traced,) = result.traces
    return Traced(
        model=model,
        image=image,
        concepts=result.concepts,
        labels=result.labels,
        layers=traced.layers,
        takeovers=tuple(Takeover(concept, traced.takeover(0, place)) for place, concept in enumerate(wrong, 1)),
        predictions=traced.predictions,
        atlas=result.provenance.atlas,
    )


def show(value: Traced) -> None:
    """Print the scores, one row a layer, and a sentence a wrong concept."""
    table = output.table("layer", *(f">{output.text(concept)}" for concept in value.concepts), "nearest")
    for layer in value.layers:
        nearest = value.concepts[layer.scores.index(max(layer.scores))]
        table.add_row(output.text(layer.layer), *_scores(layer), output.text(nearest))
    predicted = ", ".join(f"{label.label} {100 * label.probability:.1f} %" for label in value.predictions[:3])
    score = "score: cosine of the image at the layer and the concept; at the logits the label's probability"
    output.show(_title(value), table, f"{score} · predicted: {predicted}")
    for concept, label in zip(value.concepts, value.labels, strict=True):
        if concept.casefold() != label.casefold():
            text = f'{value.model} has no label "{concept}": at the logits its nearest label, "{label}", stands for it.'
            output.out.print(output.text(text), soft_wrap=True)
    first = value.layers[0].layer
    for takeover, label in zip(value.takeovers, value.labels[1:], strict=True):
        text = (
            same_label(value.concepts[0], takeover.concept, label)
            if label == value.labels[0]
            else (sentence(value.concepts[0], takeover, first))
        )
        output.out.print(output.text(text), soft_wrap=True)


def csv_sheet(value: Traced) -> output.Sheet:
    """Return one row a layer and concept."""
    rows = [
        (value.image, layer.layer, concept, label, layer.measure, score)
        for layer in value.layers
        for concept, label, score in zip(value.concepts, value.labels, layer.scores, strict=True)
    ]
    return output.Sheet(("image", "layer", "concept", "label", "measure", "score"), rows)


def same_label(expected: str, wrong: str, label: str) -> str:
    """Say that a trace cannot decide between two concepts."""
    return f'At the logits "{label}" stands for both "{expected}" and "{wrong}": the answer cannot tell them apart.'


def sentence(expected: str, takeover: Takeover, first: str) -> str:
    """Say where a wrong concept takes over, of layers from ``first`` on."""
    wrong, layer = takeover.concept, takeover.layer
    if layer is None:
        return f'"{wrong}" does not take over: the model does not prefer it to "{expected}".'
    if layer == first:
        return f'"{wrong}" is ahead of "{expected}" from the first layer, {first}, on.'
    return f'"{wrong}" takes over from "{expected}" at {layer} and stays ahead.'


def _scores(layer: LayerTrace) -> list[str]:
    if layer.measure == "probability":
        return [f"{100 * score:.1f} %" for score in layer.scores]
    return [output.number(score) for score in layer.scores]


def _title(value: Traced) -> str:
    return f"What {Path(value.image).name} is about at each layer of {value.model}"


def _same(concept: str, *, said_by_model: bool) -> InvalidInput:
    if said_by_model:
        text = f'--expected: the model predicts "{concept}" itself; say what it should predict.'
    else:
        text = f'--against: "{concept}" is also the expected concept; name another.'
    return InvalidInput(text, field=text.partition(":")[0], allowed="an expected concept that --against does not name")
