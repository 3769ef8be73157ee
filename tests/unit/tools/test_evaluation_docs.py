"""What stands in the documents is what the command prints, and nothing else of them changes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from miclip.evaluation.intervention import Change
from miclip.evaluation.result import NAMES, Result, Target, Units
from miclip.evaluation.tally import localization

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
    """Two models with one layer, found the same by every method but the oracle."""
    changes = {
        name: [[Change(-size, -0.5, 0.5)] * 4] for name, size in (("random", 1), ("attribution", 9), ("oracle", 10))
    }
    units = Units(
        layer="layer4", units="neurons", dictionary="", labels={"default": 81.25}, agreement={}, descriptions={},
        localizations={NAMES: localization({"scale_2": changes, "scale_0": changes})},
    )  # fmt: skip
    target = Target(held_out_top1=83.3, judged_on="", aligned_on="", places=(units,), unseen=None, cost=None)
    return Result(methods=(), targets={"one": target, "two": target})


def test_the_tables_say_what_was_found(tool: ModuleType, result: Result) -> None:
    block = tool.printed(result)
    assert block.startswith("```text\none · held-out top-1 83.3 %")
    assert block.endswith("\n```")
    (row,) = (line for line in tool.printed(result, ["two"]).splitlines() if "attribution  " in line)
    assert row.split() == ["layer4", "neurons", "attribution", *["-9.0", "±0.0", "-0.5", "0.94", "-8.5"] * 2]
    standing = next(line for line in block.splitlines() if line.startswith("class names  "))
    assert (standing.split()[4], standing.split()[8]) == ("–", "89")  # a loss is no gain; 8.5 of 9.5 weighted points


def test_a_part_has_the_chosen_models_and_sections(tool: ModuleType, result: Result) -> None:
    block = tool.printed(result, ["one"], ["labels"])
    assert "labels right" in block
    assert "two" not in block
    assert "×2 target" not in block


def test_the_brief_has_the_labels_of_all_layers_and_interventions_on_the_last_by_some_methods(
    tool: ModuleType, result: Result
) -> None:
    target = result.targets["one"]
    (layer,) = target.places
    places = (layer.model_copy(update={"layer": "layer3"}), layer, layer.model_copy(update={"layer": "logits"}))
    brief = tool.brief(target.model_copy(update={"places": places}), ("random", "attribution"))
    short = result.model_copy(update={"targets": {"one": brief}})
    rows = [line.split() for line in tool.printed(short).splitlines()]
    assert [row[0] for row in rows if row[1:] == ["neurons", "81.2"]] == ["layer3", "layer4", "logits"]
    changes = [(row[0], row[2]) for row in rows if row[1:2] == ["neurons"] and len(row) > 8]
    assert changes == [("layer4", "random"), ("layer4", "attribution")]
    assert [row[2] for row in rows if row[:2] == ["class", "names"]] == ["layer4"]
    assert set(layer.localizations[NAMES].methods) == {"random", "attribution", "oracle"}, "the original stays"


def test_only_the_text_between_the_markers_changes(tool: ModuleType) -> None:
    start, end = tool.MARKERS
    assert tool.replaced(f"a\n{start}\nold\n{end}\nb\n", "new") == f"a\n{start}\nnew\n{end}\nb\n"
    with pytest.raises(SystemExit, match="no text between"):
        tool.replaced(f"a {start} b", "new")


@pytest.mark.parametrize("name", ["README.md", "docs/evaluation.md"])
def test_the_documents_have_the_markers(tool: ModuleType, name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert all(text.count(marker) >= 1 for marker in tool.MARKERS)
    assert tool.replaced(text, "new") != text
