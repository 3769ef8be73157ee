"""What stands in the documents is what the command prints, and nothing else of them changes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from miclip.evaluation.intervention import Change
from miclip.evaluation.result import NAMES, Result, Target
from miclip.evaluation.subject import EvaluationSettings
from miclip.evaluation.tally import localization
from tests.unit.evaluation.report.made import CARDS, carried, label_figures, units

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "generate_evaluation_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def result() -> Result:
    """Two models with one layer, found the same by every method but the oracle; a simple baseline labels better."""
    changes = {
        name: [[Change(-size, -0.5, 0.5)] * 4] for name, size in (("random", 1), ("attribution", 9), ("oracle", 10))
    }
    names = carried({"random": 10.0, "attribution": 87.1, "oracle": 90.0}, {"random": 77.1, "clip_dissect": -1.5})
    fresh = carried({"attribution": 80.0}, {"output_only": 6.0, "random_encoder": 4.0})
    place = units(
        "layer4", labels={"default": label_figures(81.25, 40.0), "clip_dissect": label_figures(84.4, 30.0)},
        localizations={NAMES: localization({"scale_2": changes, "scale_0": changes})},
        carried={NAMES: names, "fresh_synonyms": fresh, "keywords": fresh},
    )  # fmt: skip
    target = Target(seeds=1, held_out_top1=83.3, judged_on="", aligned_on="", places=(place,), unseen=None, cost=None)
    return Result(methods=CARDS, targets={"one": target, "two": target})


def test_the_tables_say_what_was_found(tool: ModuleType, result: Result) -> None:
    text = tool.printed(result, sections=["labels", "carried", "localization", "verdict"])
    assert text.startswith("```text\nlabels right on images that nothing saw")
    assert text.endswith("\n```")
    rows = [line.split() for line in tool.printed(result, ["two"]).splitlines()]
    changes = ["-9.0", "±0.0", "-0.5", "0.5"]
    assert ["layer4", "neurons", "attribution", *changes, "-9.5", "±0.0", *changes, "-8.5", "±0.0"] in rows
    assert ["layer4", "neurons", "default", "81.2", "±1.0", "40.0", "±1.0", "40", "86.2", "±1.0", "–"] in rows
    rows = [line.split() for line in tool.printed(result, ["two"], ["verdict"]).splitlines()]
    standing = next(row for row in rows if row[:4] == ["class", "names", "layer4", "neurons"])
    assert (standing[4], standing[8]) == ("–", "89")  # a loss is no gain; 8.5 of 9.5 weighted points


def test_what_simple_baselines_win_is_said_first_and_outside_the_tables(tool: ModuleType, result: Result) -> None:
    text = tool.block(result, ["one"])
    sentences, _, tables = text.partition("```text")
    assert sentences.startswith("**one**, top-1 83.3 %, one alignment:\n\n- Labels of all units, judged by what units")
    assert "drive: a simple baseline wins in 1 of 1 places" in sentences
    assert "(layer4, neurons: CLIP-Dissect, 84.4 against 81.2 %)" in sentences
    assert "judged by what units are active for: no simple baseline wins in any of 1 places." in sentences
    assert (
        "units of class names: a simple baseline wins in 1 of 1 places (layer4, neurons: CLIP-Dissect, 1.5" in sentences
    )
    assert "On fresh queries the encoder does not pay everywhere: of 1 comparisons" in sentences
    assert "than output only in 1 and an untrained encoder in 0." in sentences
    assert "what was found" not in tables


def test_a_part_has_the_chosen_models_and_sections(tool: ModuleType, result: Result) -> None:
    text = tool.printed(result, ["one"], ["labels"])
    assert "labels right" in text
    assert "two" not in text
    assert "×2 target" not in text


def test_the_readme_has_sentences_labels_and_carried_attribution_of_a_few_methods(
    tool: ModuleType, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "README_MODEL", "one")
    (place,) = result.targets["one"].places
    control = place.model_copy(update={"units": "random features", "dictionary": "random-topk"})
    target = result.targets["one"].model_copy(update={"places": (place, control)})
    text = tool.readme(result.model_copy(update={"targets": {"one": target}}))
    assert text.startswith("**one**, top-1 83.3 %, one alignment:\n\n- Labels of all units")
    table = text[text.index("attribution carried") :]
    heads = table.splitlines()[1]
    assert "class names" in heads
    assert "fresh synonyms" in heads
    assert "tag" not in heads
    assert "random features" not in text
    assert set(place.carried[NAMES].methods) == {"random", "attribution", "oracle"}, "the original stays"


def test_only_the_text_between_the_markers_changes(tool: ModuleType) -> None:
    start, end = tool.MARKERS
    assert tool.replaced(f"a\n{start}\nold\n{end}\nb\n", "new") == f"a\n{start}\nnew\n{end}\nb\n"
    with pytest.raises(SystemExit, match="no text between"):
        tool.replaced(f"a {start} b", "new")


def test_the_numbers_of_queries_in_the_document_are_those_of_the_evaluation() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8"))
    settings = EvaluationSettings()
    assert list(settings.queries) == [NAMES, "fresh_synonyms", "fresh_categories"]
    last, middle = ("{}, {} and {}".format(*numbers) for numbers in zip(*settings.queries.values(), strict=True))
    assert f"at most {last} queries at the last layer, {middle} at the middle one" in text
    assert f"with {settings.curve[0]} to {settings.curve[-1]} units a query" in text
    assert f"one seed, {settings.curve_queries} classes" in text
    assert settings.other_views == 4
    assert "watched on four images" in text


@pytest.mark.parametrize("name", ["README.md", "docs/evaluation.md"])
def test_the_documents_have_the_markers(tool: ModuleType, name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert all(text.count(marker) >= 1 for marker in tool.MARKERS)
    assert tool.replaced(text, "new") != text
