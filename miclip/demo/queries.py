"""What people type when they mean the demo's classes: synonyms, keywords and super-categories, and definitions.

The *tag* queries are emojibase's: the demo's CLIP was trained on most of these texts. Nothing was trained on the
*fresh* ones, which are WordNet's. ``tools/demo_world/queries.py`` and ``tools/demo_world/fresh.py`` have the rules that
they were made by.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from miclip.demo.assets import ASSETS
from miclip.demo.concepts import CLASSES
from miclip.evaluation.queries import Query

QUERIES = ASSETS / "queries.json"
NOUNS = ASSETS / "vocabularies" / "nouns.txt"
FRESH_QUERIES = ASSETS / "fresh_queries.json"
KINDS = ("synonyms", "keywords", "categories")
FRESH_KINDS = ("fresh_synonyms", "fresh_categories", "fresh_glosses")


def demo_queries() -> dict[str, tuple[Query, ...]]:
    """Return all shipped queries by kind, tag queries first; classes are indices into ``CLASSES``."""
    return {**_read(QUERIES, KINDS), **fresh_queries()}


def fresh_queries() -> dict[str, tuple[Query, ...]]:
    """Return the shipped queries that nothing was trained on, by kind; classes are indices into ``CLASSES``."""
    return _read(FRESH_QUERIES, FRESH_KINDS)


def common_nouns() -> tuple[str, ...]:
    """Return the shipped vocabulary of common English nouns."""
    return tuple(NOUNS.read_text(encoding="utf-8").splitlines())


def _read(path: Path, kinds: Sequence[str]) -> dict[str, tuple[Query, ...]]:
    index = {name: label for label, name in enumerate(CLASSES)}
    saved = json.loads(path.read_text(encoding="utf-8"))
    return {
        kind: tuple(Query(text, tuple(index[name] for name in names)) for text, names in saved[kind].items())
        for kind in kinds
    }
