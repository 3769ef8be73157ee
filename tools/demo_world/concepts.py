"""The demo world's concepts: every emoji with its name, group, keywords and drawings.

Everything is read from published packages: names, groups and keywords from
``emojibase-data`` (MIT), drawings from the Iconify packages of the styles.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miclip.demo.concepts import STYLES, TRAIN_STYLES, slugify

_EXCLUDED_GROUPS = (None, 2, 9)  # emojibase groups: none, components (skin tones), flags
_VARIANT = re.compile(r"\b(man|woman|men|women)\b|skin tone")


@dataclass(frozen=True)
class Concept:
    """One emoji concept.

    Attributes:
        name: English name, for example ``"fire engine"``.
        slug: File-safe form of the name, for example ``"fire-engine"``.
        group: Super-category, for example ``"travel-places"``.
        keywords: Words people also use for it, without the name itself.
        icons: Icon name by style, for the styles that draw it.
    """

    name: str
    slug: str
    group: str
    keywords: tuple[str, ...]
    icons: dict[str, str]


def load_concepts(packages: Path) -> list[Concept]:
    """Read every base concept (no flags, skin tones or gendered variants) from the unpacked npm packages.

    Args:
        packages: Directory with one folder per npm package, named like the package without its scope.

    Returns:
        Concepts in emojibase order, each drawn by at least one training style.
    """
    emojibase = packages / "emojibase-data"
    groups = _read(emojibase / "meta" / "groups.json")["groups"]
    shortcodes = [_read(emojibase / "en" / "shortcodes" / f"{name}.json") for name in ("iamcal", "emojibase-legacy")]
    icon_sets = {style: _IconNames(packages / style) for style in STYLES}
    concepts = []
    for entry in _read(emojibase / "en" / "data.json"):
        name = entry["label"]
        if entry.get("group") in _EXCLUDED_GROUPS or (_VARIANT.search(name) and name not in ("man", "woman")):
            continue
        spellings = [slugify(name), *_shortcodes(shortcodes, entry["hexcode"])]
        noto_name = icon_sets["noto"].by_code(entry["hexcode"])
        icons = {}
        for style, icon_set in icon_sets.items():
            if icon := icon_set.find(entry["hexcode"], [*spellings, noto_name] if noto_name else spellings):
                icons[style] = icon
        if any(style in icons for style in TRAIN_STYLES):
            keywords = tuple(tag for tag in entry.get("tags", ()) if tag != name.lower())
            concepts.append(Concept(name, slugify(name), groups[str(entry["group"])], keywords, icons))
    return concepts


class _IconNames:
    """Finds a style's icon for an emoji by code point where the set lists them, else by name."""

    def __init__(self, package: Path) -> None:
        icons = _read(package / "icons.json")
        self._names = set(icons["icons"])
        self._aliases = {alias: target["parent"] for alias, target in icons.get("aliases", {}).items()}
        chars = package / "chars.json"
        self._codes: dict[str, str] = _read(chars) if chars.exists() else {}
        self._squash = package.name == "fxemoji"  # spells names without separators: "fireengine"

    def by_code(self, hexcode: str) -> str | None:
        code = hexcode.lower()
        bare = "-".join(part for part in code.split("-") if part != "fe0f")
        return self._codes.get(code) or self._codes.get(bare)

    def find(self, hexcode: str, spellings: list[str]) -> str | None:
        by_code = self.by_code(hexcode)
        for name in [by_code] if by_code else spellings:
            plain = re.sub("[^a-z0-9]", "", name) if self._squash else name
            resolved = self._aliases.get(plain, plain)
            if resolved in self._names:
                return resolved
        return None


def _shortcodes(tables: list[dict[str, str | list[str]]], hexcode: str) -> list[str]:
    found: list[str] = []
    for table in tables:
        codes = table.get(hexcode, [])
        found += [codes] if isinstance(codes, str) else codes
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
