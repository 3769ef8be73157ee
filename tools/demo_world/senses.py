"""Which WordNet sense every class of the demo has."""

from __future__ import annotations

from miclip.demo.concepts import CLASSES

WITHOUT = frozenset({"tropical fish", "maple leaf", "hot beverage", "moai"})
"""Classes that are no WordNet noun of their own; nothing is asked about them."""
OTHER = {
    "tiger": ("tiger", 1), "turtle": ("turtle", 1), "whale": ("whale", 1), "dolphin": ("dolphin", 1),
    "octopus": ("octopus", 1), "mushroom": ("mushroom", 2), "grapes": ("grape", 0), "watermelon": ("watermelon", 1),
    "banana": ("banana", 1), "pineapple": ("pineapple", 1), "red apple": ("apple", 0), "peach": ("peach", 2),
    "cherries": ("cherry", 2), "doughnut": ("doughnut", 1), "lollipop": ("lollipop", 1), "baby bottle": ("bottle", 2),
    "wine glass": ("wineglass", 0), "cocktail glass": ("drinking glass", 0), "volcano": ("volcano", 1),
    "castle": ("castle", 1), "church": ("church", 1), "fire": ("fire", 2), "balloon": ("balloon", 1),
    "jack-o-lantern": ("jack-o'-lantern", 1), "Christmas tree": ("christmas tree", 4), "trophy": ("trophy", 1),
    "baseball": ("baseball", 1), "american football": ("football", 1), "crown": ("crown", 3),
    "gem stone": ("gem", 1), "television": ("television", 2), "hammer": ("hammer", 1), "wrench": ("wrench", 2),
    "toilet": ("toilet", 1),
}  # fmt: skip
"""Lemma and place among its senses, where that is not the first sense of the class's own name."""


def senses() -> dict[str, tuple[str, int]]:
    """Return lemma and place among its senses, from 0, of every class that has one."""
    return {name: OTHER.get(name, (name.lower(), 0)) for name in CLASSES if name not in WITHOUT}
