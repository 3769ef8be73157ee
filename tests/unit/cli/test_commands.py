"""The command line without a server: parsing, JSON, messages, exit codes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from miclip.atlas import activate_atlas
from miclip.cli import describe, evaluate, localize, output, predict
from miclip.cli.app import app
from miclip.cli.examples import example_image
from miclip.cli.probe_images import probe_images
from miclip.cli.sources import Inputs, target_of
from miclip.cli.specs import ConceptSteer, PolicySteer
from miclip.cli.steering import parse_steers, resolve
from miclip.demo.probe import demo_probe
from miclip.errors import AlreadyExists, InvalidInput, NotFound
from miclip.models.predictions import AppliedSteering, ImagePrediction, Prediction
from miclip.names import UnitName
from miclip.retrieval.results import Localization, LocalizeResult, LocatedUnit, Provenance
from miclip.settings import settings
from miclip.steering.edits import Edit, Op


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no server runs and nothing was aligned."""
    monkeypatch.setenv("MICLIP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MICLIP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("MICLIP_ENDPOINT", raising=False)
    monkeypatch.delenv("MICLIP_API_KEY", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def toy(recipe: Any, tmp_path: Path) -> str:
    """An aligned model of two layers, "mid" (40 units) and "logits" (8)."""
    activate_atlas(recipe().write(tmp_path / "data" / "atlases"))
    return "toy"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


COMMANDS = (
    "serve", "stop", "status", "tour", "describe", "localize", "predict", "trace", "align", "evaluate",
    "steer create", "steer update", "steer preview", "steer list", "steer get", "vocabularies list",
    "vocabularies show", "vocabularies create", "vocabularies delete", "steer delete", "steer stop", "steer resume",
    "models", "layers", "atlases", "rm",
    "key create", "key list", "key delete", "picture unit", "picture map", "picture units", "report", "sae train",
    "sae import", "sae list",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_takes_json(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() not in ("", "unknown")


NEED_A_SERVER = (
    ("status",), ("tour",), ("describe",), ("localize", "dog"), ("steer", "list"), ("steer", "get", "x"),
    ("trace", str(example_image()), "--against", "cat"),
    ("steer", "create", "x", "layer4/1*2"), ("steer", "stop", "why"), ("key", "list"),
    ("steer", "update", "x", "--ttl", "3"), ("vocabularies", "list"), ("vocabularies", "create", "x", "fur"),
    ("align", "--model", "emoji-vit", "--remote"),
)  # fmt: skip


@pytest.mark.parametrize("arguments", NEED_A_SERVER, ids=" ".join)
def test_without_a_server_the_message_says_how_to_start_one(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "miclip serve" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [("describe",), ("localize", "dog")], ids=" ".join)
def test_without_a_server_the_message_offers_to_do_without(arguments: tuple[str, ...]) -> None:
    assert "--local" in run(*arguments).stderr


def test_stopping_when_nothing_runs_is_no_error() -> None:
    result = run("stop", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"stopped": False}


@pytest.mark.parametrize(
    "arguments",
    [("localize",), ("nonsense",), ("describe", "--nonsense"), ("localize", "dog", "--top-k", "0"), ("predict",),
     ("localize", "dog", "--top-k", "4294967295"), ("serve", "--port", "65536"), ("steer", "create", "x")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_code_2_and_says_so_on_stderr(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("describe", "../../etc/passwd"), "LAYER/UNIT"),
        (("describe", "mid/1", "--layer", "mid"), "not both"),
        (("describe", "--model", "toy", "--layer", "mid", "--units", "9-1"), "0-9,12"),
        (("describe", "--model", "toy", "--layer", "nowhere"), "mid"),
        (("describe", "toy/mid/40"), "0 to 39"),
        (("describe", "--model", "toy", "--embedding", "x"), "filter, pattern, causal"),
        (("localize", "dog", "--model", "toy", "--method", "x"), "attribution, filter"),
        (("describe", "--model", "unheard-of"), "unheard-of"),
        (("localize", "dog", "--model", "toy", "--layer", "all", "--layer", "mid"), "stands alone"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_refused_with_what_is_allowed(toy: str, arguments: tuple[str, ...], expected: str) -> None:
    result = run(*arguments, "--local", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_describe_prints_one_json_array_in_the_order_asked(toy: str) -> None:
    result = run("describe", "toy/mid/9", "toy/logits/2", "toy/mid/1", "--local", "--json")
    assert result.exit_code == 0, result.stderr
    answers = json.loads(result.stdout)
    assert [answer["name"].split("/", 2)[2] for answer in answers] == [
        "layers/mid/units/9", "layers/logits/units/2", "layers/mid/units/1",
    ]  # fmt: skip
    assert [answer["concepts"][0]["concept"] for answer in answers] == ["cat", "bus", "cat"]
    assert set(answers[0]) == {
        "name",
        "concepts",
        "active_for",
        "suppresses",
        "margin",
        "null_percentile",
        "abstained",
        "reason",
        "embedding",
        "ranking",
        "contrast",
        "stability",
        "confidence",
        "promise",
        "atlas",
    }


def test_describe_without_units_shows_the_most_clearly_labelled_of_the_last_hidden_layer(toy: str) -> None:
    answers = json.loads(run("describe", "--model", toy, "--local", "--json", "--limit", "7").stdout)
    assert len(answers) == 7
    assert all("/layers/mid/" in answer["name"] for answer in answers)
    keys = [(answer["abstained"], -answer["concepts"][0]["score"]) for answer in answers]
    assert keys == sorted(keys)
    every = json.loads(run("describe", "--model", toy, "--local", "--json", "--layer", "mid", "--units", "0-39").stdout)
    best = max(answer["concepts"][0]["score"] for answer in every if not answer["abstained"])
    assert math.isclose(answers[0]["concepts"][0]["score"], best)


def test_describe_of_a_layer_shows_all_its_units_in_order(toy: str) -> None:
    every = [f"mid/{unit}" for unit in range(40)]
    for arguments in (("mid",), ("--layer", "mid"), ("--layer", "mid", "--units", "0-39")):
        result = run("describe", *arguments, "--model", toy, "--local", "--csv")
        assert result.exit_code == 0, result.stderr
        rows = list(csv.DictReader(io.StringIO(result.stdout, newline="")))
        assert [row["unit"] for row in rows] == every
        assert {row["abstained"] for row in rows} <= {"true", "false"}
        assert [row["label"] for row in rows[:2]] == ["dog", "cat"]
    mixed = json.loads(run("describe", "mid/3", "logits", "--model", toy, "--local", "--json").stdout)
    assert [answer["name"].partition("layers/")[2] for answer in mixed] == [
        "mid/units/3", *(f"logits/units/{unit}" for unit in range(8))
    ]  # fmt: skip
    few = json.loads(run("describe", "mid", "--model", toy, "--local", "--json", "--limit", "4").stdout)
    assert len(few) == 4


def test_a_layer_of_more_units_than_a_request_takes_is_described_in_several(toy: str) -> None:
    asked: list[int] = []

    class Pages:
        def describe(self, units: list[UnitName], **_: Any) -> Any:
            asked.append(len(units))
            return SimpleNamespace(descriptions=[SimpleNamespace(name=unit) for unit in units], verdict=None)

    told: list[tuple[int, int]] = []
    units = [UnitName("m", "a", unit) for unit in range(2300)]
    answers, _ = describe.ask(
        Pages(), units, "", [], 3, "", lambda now: told.append((now.done, now.total))  # type: ignore[arg-type]
    )  # fmt: skip
    assert [answer.name for answer in answers] == units
    assert asked == [1000, 1000, 300]
    assert told == [(1000, 2300), (2000, 2300), (2300, 2300)]


def test_json_and_csv_together_are_refused(toy: str) -> None:
    result = run("describe", "mid/1", "--model", toy, "--local", "--json", "--csv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--csv" in result.stderr


def test_an_error_of_a_server_names_the_command_and_not_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    output.fail(NotFound("name: there is no policies/x; ListPolicies shows what there is.", field="name"))
    assert "no policies/x; `miclip steer list` shows what there is." in capsys.readouterr().err


def test_csv_is_that_of_rfc_4180(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    output.emit_csv(output.Sheet(("a,b", "c"), [('say "hi"', None), ("two\nlines", True), (0.1, 3)]))
    assert capfdbinary.readouterr().out == b'"a,b",c\r\n"say ""hi""",\r\n"two\nlines",true\r\n0.1,3\r\n'


def test_an_empty_concept_is_said_to_be_empty() -> None:
    result = run("localize", "dog", " ", "--local")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The concept is empty" in result.stderr


def test_the_units_of_an_image_are_named_by_its_file() -> None:
    result = run("localize", "dog", "--image", str(example_image()), "--local", "--json", "--top-k", "2")
    assert result.exit_code == 0, result.stderr
    text, image = json.loads(result.stdout)
    assert (text["concept"], image["concept"]) == ("dog", str(example_image()))
    assert [len(each["units"]) for each in (text, image)] == [2, 2]
    broken = run("localize", "--image", __file__, "--local")
    assert (broken.exit_code, Path(__file__).name in broken.stderr) == (1, True)


def test_localizations_as_csv_have_a_row_a_unit() -> None:
    found = Recorder().localize(["dog"], model="m", layers=[], top_k=2, method="filter").localizations
    sheet = localize.csv_sheet([*found, replace(found[0], concept="cat")])
    assert [tuple(row)[:3] for row in sheet.rows] == [
        ("dog", 1, "layer4/7"), ("dog", 2, "layer4/3"), ("cat", 1, "layer4/7"), ("cat", 2, "layer4/3")
    ]  # fmt: skip


def test_describe_shows_a_table_with_every_unit(toy: str) -> None:
    result = run("describe", "--model", toy, "--layer", "mid", "--units", "0-3", "--local")
    assert result.exit_code == 0, result.stderr
    for unit, label in enumerate(("dog", "cat", "bus", "tree")):
        assert f"mid/{unit}" in result.stdout
        assert label in result.stdout


def test_an_image_that_cannot_be_read_is_named() -> None:
    result = run("predict", "no-such.png", "--local", "--json")
    assert result.exit_code == 1
    assert "no-such.png" in result.stderr
    assert result.stdout == ""


class Recorder:
    """A backend whose ``localize`` answers fixed units."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def localize(
        self, texts: list[str], *, model: str, layers: list[str], top_k: int, method: Any, images: Any = ()
    ) -> LocalizeResult:
        self.asked.append((model, texts, layers, top_k, method))
        units = tuple(LocatedUnit(UnitName(model, "layer4", unit), 1.0) for unit in (7, 3))
        localization = Localization(texts[0], model, method, units, 1.0, None, "atlases/a")
        return LocalizeResult((localization,), Provenance("atlases/a", "", "", "", (), (), ""), {})


def test_a_concept_is_steered_by_its_units_and_edits_stay_in_order() -> None:
    recorder = Recorder()
    wanted = [Edit("layer3", 1, Op.ADD, 0.5), ConceptSteer("dog", 2.0)]
    steering = resolve(recorder, "m", wanted, ["layer4"], 2, "causal")  # type: ignore[arg-type]
    assert recorder.asked == [("m", ["dog"], ["layer4"], 2, "causal")]
    assert steering == {
        "edits": [wanted[0], Edit("layer4", 7, Op.SCALE, 2.0), Edit("layer4", 3, Op.SCALE, 2.0)],
        "policy": "",
    }


def test_of_one_concept_or_unit_that_is_steered_twice_the_last_counts(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = parse_steers(["dog=2", "layer4/3*5", "layer4/3+1", "cat=0", "Dog=3"], "m")
    assert wanted[2:] == [ConceptSteer("cat", 0.0), ConceptSteer("Dog", 3.0)]
    assert '"Dog" is steered twice; the last counts: ×3.' in capsys.readouterr().err
    edits = resolve(Recorder(), "m", wanted, ["layer4"], 2, "causal")["edits"]  # type: ignore[arg-type]
    assert edits == [Edit("layer4", 3, Op.ADD, 1.0), Edit("layer4", 7, Op.SCALE, 3.0), Edit("layer4", 3, Op.SCALE, 3.0)]
    assert "layer4/3 is steered twice; the last counts: layer4/3 ×3." in capsys.readouterr().err


def test_a_policy_and_edits_together_are_refused() -> None:
    with pytest.raises(InvalidInput, match="policy stands alone"):
        resolve(Recorder(), "m", [PolicySteer("p"), ConceptSteer("dog", 2.0)], [], 5, "causal")  # type: ignore[arg-type]


def test_the_change_of_a_label_is_shown_even_where_it_was_not_among_the_best() -> None:
    labels = tuple(Prediction(name, at, 0.0, p) for at, (name, p) in enumerate((("a", 0.6), ("b", 0.3), ("c", 0.1))))
    steered = (Prediction("c", 2, 0.0, 0.7), Prediction("a", 0, 0.0, 0.2), Prediction("b", 1, 0.0, 0.1))
    image, applied = ImagePrediction(steered, labels), AppliedSteering("applied", fingerprint="f")
    edits = [Edit("l", 0, Op.SCALE, 2.0)]
    value = output.plain(predict.predicted("m", "x.png", {"edits": edits, "policy": ""}, image, applied, 1, ["B"]))
    assert [label["label"] for label in value["baseline"] + value["steered"]] == ["a", "c"]
    assert math.isclose(value["steered"][0]["change"], 0.6)
    assert [(label["label"], round(label["change"], 6)) for label in value["named"]] == [("b", -0.2)]
    assert value["edits"] == [{"layer": "l", "unit": 0, "op": "scale", "value": 2.0, "reconstruct": False}]
    json.dumps(value)


def test_predictions_as_csv_have_a_row_a_label() -> None:
    labels = tuple(Prediction(name, at, 0.5, p) for at, (name, p) in enumerate((("a", 0.6), ("b", 0.3))))
    steered = tuple(predict.SteeredLabel(**vars(label), change=0.1) for label in labels)
    plain = predict.Predicted("m", "x.png", [], labels, steered, (), AppliedSteering("none"))
    edited = replace(plain, image="y.png", edits=[Edit("l", 0, Op.SCALE, 2.0)], applied=AppliedSteering("stopped"))
    sheet = predict.csv_sheet([plain, edited])
    assert [tuple(row)[:4] for row in sheet.rows] == [
        ("x.png", "none", 1, "a"), ("x.png", "none", 2, "b"), ("y.png", "none", 1, "a"), ("y.png", "none", 2, "b"),
        ("y.png", "stopped", 1, "a"), ("y.png", "stopped", 2, "b"),
    ]  # fmt: skip
    assert [row[-1] for row in sheet.rows] == [None] * 4 + [0.1] * 2


def test_a_folder_is_classified_image_by_image(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        (tmp_path / f"{name}.webp").write_bytes((example_image().parent / f"{name}.webp").read_bytes())
    result = run("predict", str(tmp_path), "--local", "--json")
    assert result.exit_code == 0, result.stderr
    folder = json.loads(result.stdout)
    assert [Path(value["image"]).name for value in folder] == ["cat.webp", "dog.webp"]
    alone = json.loads(run("predict", str(tmp_path / "dog.webp"), "--local", "--json").stdout)
    assert [label["label"] for label in alone["baseline"]] == [label["label"] for label in folder[1]["baseline"]]
    table = run("predict", str(tmp_path), "--local").stdout
    assert "2 images" in table and "dog.webp" in table.replace("\n", "")
    (tmp_path / "broken.png").write_bytes(b"broken")
    broken = run("predict", str(tmp_path), "--local")
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert "broken.png" in broken.stderr


def test_names_with_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    label = Prediction("[bold]x[/]", 0, 0.0, 0.5)
    predict.show(predict.Predicted("m", "a[b].png", [], (label,), (), (), AppliedSteering("none")))
    shown = capsys.readouterr().out
    assert "[bold]x[/]" in shown
    assert "a[b].png" in shown


def test_align_asks_for_weights_before_it_loads_anything() -> None:
    result = run("align", "--model", "timm/resnet50", "--json")
    assert result.exit_code == 1
    assert "--weights" in result.stderr
    assert result.stdout == ""


def test_align_on_the_server_takes_no_local_files(tmp_path: Path) -> None:
    result = run("align", "--model", "timm/resnet50", "--images", str(tmp_path), "--remote")
    assert result.exit_code == 1
    assert "--images" in result.stderr


def test_align_refuses_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="16"):
        probe_images(tmp_path, 0, "emoji-vit")


def test_only_a_model_that_comes_with_images_is_aligned_without_naming_some() -> None:
    assert probe_images(None, 0, "emoji-vit").sha256 == demo_probe().sha256
    with pytest.raises(InvalidInput, match=r"mine comes with no images.*WebDataset"):
        probe_images(None, 0, "mine")


def test_evaluate_describes_with_three_open_vocabularies() -> None:
    sizes = {name: len(set(concepts)) for name, concepts in evaluate._vocabularies().items()}
    assert sizes["emoji"] > 1000
    assert sizes["imagenet"] > 900
    assert sizes["nouns"] > 10_000


def test_evaluate_knows_the_models_that_there_are() -> None:
    with pytest.raises(NotFound, match="emoji-resnet"):
        evaluate.demo_trial(["timm-resnet50"], None, None)


def test_align_takes_weights_for_a_model_that_it_imports_alone(tmp_path: Path) -> None:
    result = run("align", "--model", "emoji-vit", "--weights", str(tmp_path / "x.safetensors"))
    assert result.exit_code == 1
    assert "timm/NAME" in result.stderr


def test_align_under_a_taken_id_wants_the_same_weights_and_labels(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    files = [str(tmp_path / f"{number}.safetensors") for number in range(2)]
    for file in files:
        model = timm.create_model("test_resnet.r160_in1k", num_classes=3)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n", encoding="utf-8")
    (tmp_path / "other.txt").write_text("a\nb\nd\n", encoding="utf-8")
    source = ("timm/test_resnet", "mine", [], Inputs())
    first = target_of(source[0], files[0], tmp_path / "labels.txt", *source[1:])
    for labels in (tmp_path / "labels.txt", None):
        assert target_of(source[0], files[0], labels, *source[1:]).weights_sha256 == first.weights_sha256
    for weights, labels in ((files[1], tmp_path / "labels.txt"), (files[0], tmp_path / "other.txt")):
        with pytest.raises(AlreadyExists, match="other weights or labels"):
            target_of(source[0], weights, labels, *source[1:])
