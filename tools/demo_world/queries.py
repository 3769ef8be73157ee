"""What people type when they mean the demo's classes: synonyms, keywords and super-categories.

All of it is emojibase's: its keywords and shortcodes are what people search emoji by. A text is considered when it is
made of letters, at least three in its first word, and is no class's name, in singular or plural. It covers every class
that carries it.

- A *synonym* covers one class, and is the emoji's shortcode ("coffee" for a hot beverage), or WordNet knows it as
  another name of the same thing ("spanner" for a wrench) or, where it is typical, of one right above or below it.
- A *keyword* is any other text that is typical of the classes: at least half of all emoji that carry it are among them.
  "under" (koala, from "down under") is one; "face" is none, for it means hundreds of others.
- The *categories* are emojibase's subgroups that hold at least two classes.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miclip.demo.concepts import CLASSES
from miclip.demo.queries import KINDS
from tools.demo_world.wordnet import Nouns

SHORTCODES = ("iamcal", "emojibase", "joypixels", "github")
MAJORITY = 0.5

WORDS = re.compile(r"[a-z]{3,}([ -][a-z]+)*")
"""Texts of letters, three at least in the first word."""
_ADJECTIVES = {"marine", "prepared", "asian", "sweet", "ground", "water", "air", "religious", "geographic"}


def build_nouns(packages: Path) -> list[str]:
    """Return WordNet's common nouns that are spelled with letters, three at least in the first word."""
    return [noun for noun in Nouns(packages / "wordnet").common if WORDS.fullmatch(noun)]


def build_queries(packages: Path) -> dict[str, dict[str, list[str]]]:
    """Return covered classes by text by kind, from the unpacked npm packages."""
    emoji = [_Emoji(entry, codes) for entry, codes in _entries(packages / "emojibase-data" / "en")]
    carriers = Counter(text for one in emoji for text in one.texts)
    covered, ours = defaultdict(list), {one.name: one for one in emoji if one.name in CLASSES}
    for name in CLASSES:
        for text in sorted(ours[name].texts):
            covered[text].append(name)
    nouns, names = Nouns(packages / "wordnet"), {singular(name.lower()) for name in CLASSES}
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    for text, classes in covered.items():
        if WORDS.fullmatch(text) and singular(text) not in names:
            kind = _kind(text, [ours[name] for name in classes], len(classes) >= MAJORITY * carriers[text], nouns)
            found.setdefault(kind, {})[text] = classes
    return {kind: found[kind] for kind in KINDS[:2]} | {"categories": _categories(packages, list(ours.values()))}


def _kind(text: str, classes: list[_Emoji], typical: bool, nouns: Nouns) -> str:
    if len(classes) == 1:
        name = classes[0].name
        if text in classes[0].shortcodes or nouns.same(text, name) or (typical and nouns.near(text, name)):
            return "synonyms"
    return "keywords" if typical else "neither"


def emoji_texts(packages: Path) -> set[str]:
    """Return every emoji's name, keywords and shortcodes, and the names of their groups, in lower case."""
    folder = packages / "emojibase-data"
    emoji = [_Emoji(entry, codes) for entry, codes in _entries(folder / "en")]
    subgroups = _read(folder / "meta" / "groups.json")["subgroups"].values()
    return {text for one in emoji for text in (one.name.lower(), *one.texts)} | set(map(category_text, subgroups))


class _Emoji:
    """Name, subgroup, keywords and shortcodes of one emoji."""

    def __init__(self, entry: dict[str, Any], codes: list[str]) -> None:
        self.name: str = entry["label"]
        self.subgroup = str(entry["subgroup"])
        self.tags = {tag.lower() for tag in entry.get("tags", ())}
        self.shortcodes = {code.replace("_", " ").lower() for code in codes}

    @property
    def texts(self) -> set[str]:
        """Keywords and shortcodes."""
        return self.tags | self.shortcodes


def _entries(folder: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    tables = [_read(folder / "shortcodes" / f"{name}.json") for name in SHORTCODES]
    for entry in _read(folder / "data.json"):
        if "subgroup" in entry:
            codes = [table.get(entry["hexcode"], []) for table in tables]
            yield entry, [code for some in codes for code in ([some] if isinstance(some, str) else some)]


def _categories(packages: Path, emoji: list[_Emoji]) -> dict[str, list[str]]:
    subgroups = _read(packages / "emojibase-data" / "meta" / "groups.json")["subgroups"]
    members = defaultdict(list)
    for one in emoji:
        members[category_text(subgroups[one.subgroup])].append(one.name)
    return {text: classes for text, classes in members.items() if text and len(classes) > 1}


def category_text(subgroup: str) -> str:
    """Return a subgroup as people would type it: its last word, behind which an adjective keeps its noun.

    ``food-fruit`` gives "fruit", ``food-sweet`` "sweet food"; a subgroup of leftovers (``place-other``) gives "".
    """
    head, _, last = subgroup.rpartition("-")
    if "other" in (head, last):
        return ""
    return f"{last} {head}" if last in _ADJECTIVES else last


def singular(text: str) -> str:
    """Return ``text`` without the ending of a plural: a key to compare texts by."""
    return re.sub("(ies|s)$", "", text)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
