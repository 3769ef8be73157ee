"""The super-category of every class, after emojibase; the classes stand in its order, so that each is one stretch."""

from __future__ import annotations

from miclip.demo.concepts import CLASSES

FIRST = {
    "monkey": "animals and nature",
    "grapes": "food and drink",
    "volcano": "travel and places",
    "balloon": "activities",
    "glasses": "objects",
}
"""First class of every super-category, in the order of ``CLASSES``."""


def demo_groups() -> dict[str, str]:
    """Return the super-category of every class."""
    found, group = {}, ""
    for label in CLASSES:
        group = FIRST.get(label, group)
        found[label] = group
    return found
