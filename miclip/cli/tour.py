"""``miclip tour``: one unit described, one concept localized, one prediction steered, and what each means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from miclip.cli import describe, localize, output, predict
from miclip.cli.backend import Backend
from miclip.cli.connect import backend
from miclip.cli.examples import example_image, short
from miclip.cli.options import DEFAULT_MODEL, Local
from miclip.cli.predict import Predicted
from miclip.cli.specs import ConceptSteer
from miclip.cli.steering import resolve

if TYPE_CHECKING:
    from miclip.retrieval.results import Description, Localization

CONCEPT, FACTOR, UNITS, METHOD = "dog", 2.0, 5, "attribution"


def tour(local: Local = False, as_json: output.Json = False) -> None:
    """Take a short tour of what miclip does, on the bundled model."""
    image = example_image()
    with backend(local) as service:
        where = localize.search_layers(service, DEFAULT_MODEL, [])
        described = _clearest_unit(service, where[0])
        located = service.localize([CONCEPT], model=DEFAULT_MODEL, layers=where, top_k=UNITS, method=METHOD)
        steering = resolve(service, DEFAULT_MODEL, [ConceptSteer(CONCEPT, FACTOR)], where, UNITS, METHOD)
        (predicted,) = predict.ask(service, DEFAULT_MODEL, [Path(short(image))], steering, 5, [CONCEPT])
    (localization,), (dog,) = located.localizations, predicted.named
    value = {"describe": described, "localize": localization, "predict": predicted}
    before, after = dog.probability - dog.change, dog.probability
    output.emit(value, as_json, lambda: _show(described, localization, predicted, before, after))


def _clearest_unit(service: Backend, layer: str) -> Description:
    units = describe.units_of_layer(service, DEFAULT_MODEL, layer)
    answers, _ = describe.ask(service, units, "model-labels", [], 3, "")
    (best,) = describe.strongest(answers, 1)
    return best


def _show(
    described: Description, localization: Localization, predicted: Predicted, before: float, after: float
) -> None:
    say = output.out.print
    name, best = described.name, described.concepts[0].concept
    _step("1. What does a unit mean?", f"miclip describe {name.layer}/{name.unit}")
    describe.show([described])
    say(
        f'\nAmong the model\'s labels, unit {name.unit} of {name.layer} stands for "{output.text(best)}"; the label '
        f"stands out more than that of {described.null_percentile:.0f} % of random directions of the layer.\n"
    )
    _step("2. Where is a concept?", f'miclip localize "{CONCEPT}"')
    localize.show([localization], [name.layer])
    say(f'\nThese units add the most to the model\'s answer on pictures that are about "{CONCEPT}".\n')
    _step("3. What if we turn it up?", f'miclip predict {predicted.image} --steer "{CONCEPT}={FACTOR}"')
    predict.show(predicted)
    say(
        f'\nWith those units doubled, the probability of "{CONCEPT}" goes from {100 * before:.1f} % to '
        f"{100 * after:.1f} % on the same picture; requests without the edit are not touched.\n"
    )
    say("Next: [bold]miclip --help[/] and [bold]miclip status[/]; the README has the Python and gRPC examples.")


def _step(question: str, command: str) -> None:
    output.out.print(f"[bold cyan]{question}[/]\n[dim]$ {output.text(command)}[/]\n", soft_wrap=True)
