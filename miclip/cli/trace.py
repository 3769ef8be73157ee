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
from miclip.cli.photos import Image, read_image
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
    """What the command answers; the expected concept is the first of the concepts that the layers' scores are of."""

    model: str
    image: str
    concepts: tuple[str, ...]
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
) -> None:
    """Follow an image through the model: at which layer a wrong concept takes over from the right one.

    Examples:
        miclip trace photo.png --expected dog --against cat

        miclip trace photo.png --against cat --against wolf --plot trace.png
    """
    if plot is not None:
        from miclip.pictures.canvas import check_png

        check_png(plot, "--plot")
    data = read_image(image)
    with backend(local) as service:
        value = ask(service, model, str(image), data, expected, against)
    if plot is not None:
        from miclip.cli.plot import plot_trace

        plot_trace(plot, _title(value), value.concepts, value.layers)
    output.emit(value, as_json, lambda: show(value))


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
        table.add_row(output.text(layer.layer), *map(output.number, layer.scores), output.text(nearest))
    predicted = ", ".join(f"{label.label} {100 * label.probability:.1f} %" for label in value.predictions[:3])
    output.show(
        _title(value), table, f"score: cosine of the image at the layer and the concept · predicted: {predicted}"
    )
    first, last = value.layers[0].layer, value.layers[-1].layer
    for takeover in value.takeovers:
        output.out.print(output.text(sentence(value.concepts[0], takeover, first, last)), soft_wrap=True)


def sentence(expected: str, takeover: Takeover, first: str, last: str) -> str:
    """Say where a wrong concept takes over, of layers from ``first`` to ``last``."""
    wrong, layer = takeover.concept, takeover.layer
    if layer is None:
        return f'"{wrong}" does not take over: at {last} the image is not nearer to it than to "{expected}".'
    if layer == first:
        return f'"{wrong}" is ahead of "{expected}" from the first layer, {first}, on.'
    return f'"{wrong}" takes over from "{expected}" at {layer} and stays ahead.'


def _title(value: Traced) -> str:
    return f"What {Path(value.image).name} is about at each layer of {value.model}"


def _same(concept: str, *, said_by_model: bool) -> InvalidInput:
    if said_by_model:
        text = f'--expected: the model predicts "{concept}" itself; say what it should predict.'
    else:
        text = f'--against: "{concept}" is also the expected concept; name another.'
    return InvalidInput(text, field=text.partition(":")[0], allowed="another concept than --against names")
