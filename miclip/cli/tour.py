"""``miclip tour``: one unit described, one concept localized, one prediction steered, and what each means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miclip.cli import describe, localize, output, predict
from miclip.cli.answers import Backend, Description, Label, Localization
from miclip.cli.connect import backend
from miclip.cli.examples import example_image, short
from miclip.cli.options import DEFAULT_MODEL, Local
from miclip.cli.specs import ConceptSteer
from miclip.names import parse_unit

CONCEPT, FACTOR, UNITS, METHOD = "dog", 2.0, 5, "attribution"


def tour(local: Local = False, as_json: output.Json = False) -> None:
    """Take a short tour of what miclip does, on the bundled model."""
    image = example_image()
    with backend(local) as service:
        where = localize.search_layers(service, DEFAULT_MODEL, [])
        described = _clearest_unit(service, where[0])
        (found,) = service.localize(DEFAULT_MODEL, [CONCEPT], layers=where, top_k=UNITS, method=METHOD)
        steering = predict.resolve(service, DEFAULT_MODEL, [ConceptSteer(CONCEPT, FACTOR)], where, UNITS, METHOD)
        answer = service.predict(DEFAULT_MODEL, predict.read_image(image), top_k=predict.EVERY_LABEL, **steering)
    predicted = predict.as_value(DEFAULT_MODEL, short(image), steering, answer, top_k=5)
    value = {"describe": described, "localize": found, "predict": predicted}
    before, after = (_probability(labels) for labels in (answer["baseline"], answer["steered"]))
    output.emit(value, as_json, lambda: _show(described, found, predicted, before, after))


def _clearest_unit(service: Backend, layer: str) -> Description:
    units = describe.units_of_layer(service, DEFAULT_MODEL, layer)
    (best,) = describe.strongest(describe.ask(service, units, "model-labels", [], 3, ""), 1)
    return best


def _probability(labels: Sequence[Label]) -> float:
    return next((label["probability"] for label in labels if label["label"] == CONCEPT), 0.0)


def _show(described: Description, found: Localization, predicted: dict[str, Any], before: float, after: float) -> None:
    say = output.out.print
    name, best = parse_unit(described["unit"]), described["concepts"][0]["concept"]
    _step("1. What does a unit mean?", f"miclip describe {name.layer}/{name.unit}")
    describe.show([described])
    say(
        f'\nAmong the model\'s labels, unit {name.unit} of {name.layer} stands for "{output.text(best)}"; the label '
        f"stands out more than that of {described['null_percentile']:.0f} % of random directions of the layer.\n"
    )
    _step("2. Where is a concept?", f'miclip localize "{CONCEPT}"')
    localize.show([found], [name.layer])
    say(f'\nThese units add the most to the model\'s answer on pictures that are about "{CONCEPT}".\n')
    _step("3. What if we turn it up?", f'miclip predict {predicted["image"]} --steer "{CONCEPT}={FACTOR}"')
    predict.show(predicted)
    say(
        f'\nWith those units doubled, the probability of "{CONCEPT}" goes from {100 * before:.1f} % to '
        f"{100 * after:.1f} % on the same picture; requests without the edit are not touched.\n"
    )
    say("Next: [bold]miclip --help[/] and [bold]miclip status[/]; the README has the Python and gRPC examples.")


def _step(question: str, command: str) -> None:
    output.out.print(f"[bold cyan]{question}[/]\n[dim]$ {output.text(command)}[/]\n", soft_wrap=True)
