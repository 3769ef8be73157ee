"""What people type when they mean the demo's classes: synonyms, keywords and super-categories.

``tools/demo_world/queries.py`` has the rules that they were made by.
"""

from __future__ import annotations

import json

from miclip.demo.assets import ASSETS
from miclip.demo.concepts import CLASSES
from miclip.evaluation.queries import Query

QUERIES = ASSETS / "queries.json"
NOUNS = ASSETS / "vocabularies" / "nouns.txt"
KINDS = ("synonyms", "keywords", "categories")


def demo_queries() -> dict[str, tuple[Query, ...]]:
    """Return the shipped queries by kind; classes are indices into ``CLASSES``."""
    index = {name: label for label, name in enumerate(CLASSES)}
    saved = json.loads(QUERIES.read_text(encoding="utf-8"))
    return {
        kind: tuple(Query(text, tuple(index[name] for name in names)) for text, names in saved[kind].items())
        for kind in KINDS
    }


def common_nouns() -> tuple[str, ...]:
    """Return the shipped vocabulary of common English nouns."""
    return tuple(NOUNS.read_text(encoding="utf-8").splitlines())
