"""What stands in the documents is what the command prints, and nothing else of them changes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from miclip.evaluation.intervention import Change
from miclip.evaluation.summary import summarise, verdict

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
def value() -> dict[str, Any]:
    """Two models with one layer, found the same by every method but the oracle."""
    found = {
        name: [[Change(-size, -0.5, 0.5)] * 4] for name, size in (("random", 1), ("attribution", 9), ("oracle", 10))
    }
    methods = {name: dict.fromkeys(("scale_2", "scale_0"), summarise(seeds)) for name, seeds in found.items()}
    standing = dict.fromkeys(("scale_2", "scale_0"), verdict(found, -1))
    units = {"labels": {"default": 81.25}, "agreement": {}, "localization": methods, "verdict": {"names": standing}}
    target = {"held_out_top1": 83.3, "layers": {"layer4": {"neurons": units}}}
    return {"targets": {"one": target, "two": target}}


def test_the_tables_say_what_was_found(tool: ModuleType, value: dict[str, Any]) -> None:
    block = tool.printed(value)
    assert block.startswith("```text\none · held-out top-1 83.3 %")
    assert block.endswith("\n```")
    (row,) = (line for line in tool.printed(value, ["two"]).splitlines() if "attribution  " in line)
    assert row.split() == ["layer4", "neurons", "attribution", *["-9.0", "±0.0", "-0.5", "0.94", "-8.5"] * 2]
    standing = next(line for line in block.splitlines() if line.startswith("class names  "))
    assert standing.split()[4] == "89"  # 8.5 of 9.5 weighted points


def test_a_part_has_the_chosen_models_and_sections(tool: ModuleType, value: dict[str, Any]) -> None:
    block = tool.printed(value, ["one"], ["labels"])
    assert "labels right" in block
    assert "two" not in block
    assert "×2 target" not in block


def test_the_brief_has_the_labels_of_all_layers_and_interventions_on_the_last_by_some_methods(
    tool: ModuleType, value: dict[str, Any]
) -> None:
    layer = value["targets"]["one"]["layers"]["layer4"]
    full = {**value["targets"]["one"], "layers": {"layer3": layer, "layer4": layer, "logits": layer}}
    brief = tool.penultimate(full, ("random", "attribution"))
    rows = [line.split() for line in tool.printed({"targets": {"one": brief}}).splitlines()]
    assert [row[0] for row in rows if row[1:] == ["neurons", "81.2"]] == ["layer3", "layer4", "logits"]
    changes = [(row[0], row[2]) for row in rows if row[1:2] == ["neurons"] and len(row) > 8]
    assert changes == [("layer4", "random"), ("layer4", "attribution")]
    assert [row[2] for row in rows if row[:2] == ["class", "names"]] == ["layer4"]
    assert set(layer["neurons"]["localization"]) == {"random", "attribution", "oracle"}, "the original stays"


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
