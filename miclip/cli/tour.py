"""``miclip tour``: one unit described, one concept localized, one prediction steered, and what each means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miclip.cli import describe, localize, output, predict
from miclip.cli.answers import Backend, Description, Label, Localization
from miclip.cli.connect import backend
from miclip.cli.examples import example_image
from miclip.cli.options import DEFAULT_MODEL, Local
from miclip.cli.specs import ConceptSteer
from miclip.names import UnitName, parse_unit

CONCEPT, FACTOR = "dog", 2.0


def tour(local: Local = False, as_json: output.Json = False) -> None:
    """Take a short tour of what miclip does, on the bundled model."""
    image = example_image()
    with backend(local) as service:
        (found,) = service.localize(
            DEFAULT_MODEL, [CONCEPT], layers=localize.search_layers(service, DEFAULT_MODEL, []), top_k=5,
            method="attribution",
        )  # fmt: skip
        described = _describe(service, parse_unit(found["units"][0]["unit"]))
        steering = predict.resolve(service, DEFAULT_MODEL, [ConceptSteer(CONCEPT, FACTOR)], [], 5, "attribution")
        answer = service.predict(DEFAULT_MODEL, predict.read_image(image), top_k=predict.EVERY_LABEL, **steering)
    predicted = predict.as_value(DEFAULT_MODEL, str(image), steering, answer, top_k=5)
    before, after = (_probability(labels) for labels in (answer["baseline"], answer["steered"]))
    value = {"describe": described, "localize": found, "predict": predicted}
    output.emit(value, as_json, lambda: _show(described, found, predicted, before, after))


def _describe(service: Backend, unit: UnitName) -> Description:
    (described,) = service.describe([unit], vocabulary="model-labels", concepts=[], top_k=3, embedding="")
    return described


def _probability(labels: Sequence[Label]) -> float:
    return next((label["probability"] for label in labels if label["label"] == CONCEPT), 0.0)


def _show(described: Description, found: Localization, predicted: dict[str, Any], before: float, after: float) -> None:
    say = output.out.print
    name = parse_unit(described["unit"])
    _step("1", "Where is a concept?", f'miclip localize "{CONCEPT}"')
    localize.show([found], [name.layer])
    say(f'\nThese units of {name.layer} carry "{CONCEPT}": on pictures of it, they add the most to the answer.\n')
    _step("2", "What does a unit mean?", f"miclip describe {name.layer}/{name.unit}")
    describe.show([described])
    sure = "less than chance would give, so the label abstains" if described["abstained"] else "so it is no accident"
    say(f'\nOf all labels, "{output.text(described["concepts"][0]["concept"])}" is nearest to the unit; '
        f"{described['null_percentile']:.0f} % of random directions score lower, {sure}.\n")  # fmt: skip
    _step("3", "Does it matter?", f'miclip predict dog.webp --steer "{CONCEPT}={FACTOR}"')
    predict.show(predicted)
    say(
        f'\nWith those units doubled, the probability of "{CONCEPT}" goes from {100 * before:.1f} % to '
        f"{100 * after:.1f} % on the same picture; requests without the edit are not touched.\n"
    )
    say("Next: [bold]miclip --help[/], [bold]miclip status[/]; the README has the Python and gRPC examples.")


def _step(place: str, question: str, command: str) -> None:
    output.out.print(f"[bold cyan]{place}. {question}[/]  [dim]{output.text(command)}[/]\n")
