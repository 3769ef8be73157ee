"""The rules by which texts become queries for the demo's classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miclip.demo.concepts import CLASSES
from tools.demo_world.fresh import build_fresh_queries
from tools.demo_world.queries import SHORTCODES, build_queries, category_text
from tools.demo_world.senses import OTHER, WITHOUT, senses


@pytest.mark.parametrize(
    ("subgroup", "text"),
    [("food-fruit", "fruit"), ("food-sweet", "sweet food"), ("place-other", ""), ("clothing", "clothing")],
)
def test_a_subgroup_is_spelled_as_people_would(subgroup: str, text: str) -> None:
    assert category_text(subgroup) == text


def test_the_rules_take_synonyms_and_typical_keywords_and_leave_the_rest(tmp_path: Path) -> None:
    """Emoji of all classes, and forty faces; WordNet knows a spanner for a wrench."""
    entries: list[dict[str, Any]] = [
        {"label": name, "hexcode": str(n), "subgroup": 0, "tags": ["face"]} for n, name in enumerate(CLASSES[:20])
    ] + [{"label": name, "hexcode": str(n), "subgroup": 1, "tags": []} for n, name in enumerate(CLASSES[20:], 20)]
    by_name = {entry["label"]: entry for entry in entries}
    by_name["wrench"]["tags"] = ["spanner", "fix", "hammers"]
    by_name["dog"]["tags"] += ["pet", "af"]
    by_name["cat"]["tags"] += ["pet"]
    entries += [{"label": f"face {n}", "hexcode": f"f{n}", "subgroup": 2, "tags": ["face"]} for n in range(40)]
    entries += [{"label": f"pet {n}", "hexcode": f"p{n}", "subgroup": 2, "tags": ["spanner"]} for n in range(5)]
    codes = {by_name["rose"]["hexcode"]: ["red_bloom", "rose"]}
    _write(tmp_path / "emojibase-data" / "en" / "data.json", entries)
    for name in SHORTCODES:
        _write(tmp_path / "emojibase-data" / "en" / "shortcodes" / f"{name}.json", codes)
    subgroups = {"0": "animal-mammal", "1": "object-other", "2": "face-smiling"}
    _write(tmp_path / "emojibase-data" / "meta" / "groups.json", {"subgroups": subgroups})
    _write_wordnet(tmp_path / "wordnet" / "dict")
    found = build_queries(tmp_path)
    assert found["synonyms"] == {"red bloom": ["rose"], "spanner": ["wrench"]}
    assert found["keywords"] == {"pet": ["dog", "cat"], "fix": ["wrench"]}
    assert found["categories"] == {"mammal": list(CLASSES[:20])}


def test_fresh_queries_are_lemmas_above_and_definitions_that_no_emoji_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spanner is a tag of some emoji, in the plural; an adjustable is not."""
    entries = [{"label": "wrench", "hexcode": "1", "subgroup": 0, "tags": ["spanners", "fix"]}]
    _write(tmp_path / "emojibase-data" / "en" / "data.json", entries)
    for name in SHORTCODES:
        _write(tmp_path / "emojibase-data" / "en" / "shortcodes" / f"{name}.json", {})
    _write(tmp_path / "emojibase-data" / "meta" / "groups.json", {"subgroups": {"0": "animal-mammal"}})
    _write_wordnet(tmp_path / "wordnet" / "dict")
    monkeypatch.setattr("tools.demo_world.fresh.senses", lambda: {"wrench": ("wrench", 0)})
    assert build_fresh_queries(tmp_path) == {
        "fresh_synonyms": {"adjustable": ["wrench"]},
        "fresh_categories": {"tool": ["wrench"]},
        "fresh_glosses": {"a hand tool": ["wrench"]},
    }


def test_every_class_has_one_sense_or_is_left_out() -> None:
    assert set(senses()) | WITHOUT == set(CLASSES)
    assert set(OTHER) < set(senses())


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _write_wordnet(folder: Path) -> None:
    """Two words of one synset, as wndb(5WN) has it."""
    folder.mkdir(parents=True)
    (folder / "index.noun").write_text(
        "  1 licence\nspanner n 1 1 @ 1 0 00000100\nwrench n 1 1 @ 1 1 00000100\nfix n 1 0 1 0 00000300\n"
    )
    (folder / "data.noun").write_text(
        "  1 licence\n"
        '00000100 06 n 03 wrench 0 spanner 0 adjustable 0 001 @ 00000200 n 0000 | a hand tool (big); "turn"\n'
        "00000200 06 n 01 tool 0 000 | an implement\n00000300 06 n 01 fix 0 000 | a repair\n"
    )
