"""``miclip trace`` without a server."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from miclip.cli import output, trace
from miclip.cli.app import app
from miclip.cli.examples import example_image
from miclip.cli.plot import plot_trace
from miclip.errors import InvalidInput
from miclip.models.predictions import AppliedSteering, ImagePrediction, Prediction, PredictResult
from miclip.retrieval.results import ImageTrace, LayerTrace, Provenance, TraceResult

LABELS = (Prediction("dog", 0, 1.0, 0.9),)
ROWS = {"a": [0.5, 0.1, 0.6], "b": [0.2, 0.3, 0.1], "logits": [0.1, 0.4, 0.1]}


class Backend:
    """Predicts "dog", and answers fixed scores of "dog", a concept that takes over at b, and one that never does."""

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        self.asked: list[list[str]] = []
        self.labels = labels

    def predict(self, images: list[bytes], **_: Any) -> PredictResult:
        return PredictResult((ImagePrediction(LABELS),), AppliedSteering("none"), {}, "")

    def trace(self, images: list[bytes], *, model: str, concepts: list[str], top_k: int) -> TraceResult:
        self.asked.append(concepts)
        layers = tuple(
            LayerTrace(name, tuple(scores[: len(concepts)]), "probability" if name == "logits" else "cosine")
            for name, scores in ROWS.items()
        )
        source = Provenance("atlases/x", "", "", "", (), (), "")
        return TraceResult(tuple(concepts), self.labels or tuple(concepts), (ImageTrace(layers, LABELS),), source, {})


def ask(expected: str, *against: str) -> tuple[Any, Backend]:
    backend = Backend()
    return trace.ask(backend, "m", "a[b].png", b"", expected, against), backend  # type: ignore[arg-type]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["trace", *arguments])


@pytest.mark.parametrize(("expected", "first"), [(" wolf ", "wolf"), ("", "dog"), (" ", "dog")])
def test_the_expected_concept_is_the_prediction_unless_it_is_named(expected: str, first: str) -> None:
    value, backend = ask(expected, "cat ", "bus")
    assert backend.asked == [[first, "cat", "bus"]] == [list(value.concepts)]


def test_each_wrong_concept_has_the_layer_where_it_takes_over() -> None:
    value, _ = ask("dog", "cat", "bus")
    assert value.takeovers == (trace.Takeover("cat", "b"), trace.Takeover("bus", None))


@pytest.mark.parametrize(("expected", "names"), [("cat", "--against"), ("", "--expected")])
def test_a_concept_is_not_traced_against_itself(expected: str, names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        ask(expected, "cat", "dog")


def test_the_table_has_every_layer_and_concept_and_a_sentence_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    value, _ = ask("dog", "[red]cat", "bus")
    trace.show(value)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "What a[b].png is about at each layer of m"
    assert lines[2].split() == ["a", "0.500", "0.100", "0.600", "bus"]
    assert lines[4].split() == ["logits", "10.0", "%", "40.0", "%", "10.0", "%", "[red]cat"]
    assert lines[5].endswith("predicted: dog 90.0 %")
    assert lines[6] == '"[red]cat" takes over from "dog" at b and stays ahead.'
    assert lines[7] == '"bus" does not take over: the model does not prefer it to "dog".'


def test_a_concept_without_a_label_says_what_stands_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    backend = Backend(labels=("dog", "dog", "bus"))
    trace.show(trace.ask(backend, "m", "a.png", b"", "dog", ["puppy", "bus"]))  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert 'm has no label "puppy": at the logits its nearest label, "dog", stands for it.' in said
    assert 'At the logits "dog" stands for both "dog" and "puppy"' in said
    assert 'has no label "bus"' not in said


def test_a_sheet_has_a_row_a_layer_and_concept(capsys: pytest.CaptureFixture[str]) -> None:
    value, _ = ask("dog", "cat, or not")
    output.emit_csv(trace.csv_sheet(value))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["layer"], row["concept"]) for row in rows[2:5]] == [
        ("b", "dog"), ("b", "cat, or not"), ("logits", "dog")
    ]  # fmt: skip
    assert (rows[5]["measure"], float(rows[5]["score"])) == ("probability", 0.4)


def test_a_concept_ahead_from_the_start_is_not_said_to_take_over() -> None:
    said = trace.sentence("dog", trace.Takeover("cat", "a"), "a")
    assert said == '"cat" is ahead of "dog" from the first layer, a, on.'


def test_the_plot_is_a_png_with_a_line_a_concept(tmp_path: Path) -> None:
    value, _ = ask("dog", "costs $1 and $2", "bus")
    drawn, fewer = tmp_path / "t.png", tmp_path / "u.png"
    plot_trace(drawn, "costs $1 and $2", value.concepts, value.layers)
    plot_trace(fewer, "costs $1 and $2", value.concepts[:2], value.layers)
    assert drawn.read_bytes().startswith(b"\x89PNG\r\n")
    assert drawn.read_bytes() != fewer.read_bytes()


@pytest.mark.parametrize(("plot", "said"), [("x.jpg", ".png"), ("nowhere/x.png", "nowhere")])
def test_a_plot_that_cannot_be_written_is_refused_before_any_work(plot: str, said: str) -> None:
    result = run(str(example_image()), "--against", "cat", "--plot", plot, "--model", "unheard-of", "--local")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr and "unheard-of" not in result.stderr


def test_what_to_compare_with_must_be_said() -> None:
    result = run(str(example_image()))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--against" in result.stderr


def test_an_image_that_cannot_be_read_is_named() -> None:
    result = run("no-such.png", "--against", "cat", "--local")
    assert result.exit_code == 1
    assert "no-such.png" in result.stderr


def test_the_help_names_the_extra_that_a_plot_needs() -> None:
    assert "miclip[plot]" in run("--help").stdout.replace("\n", "")
