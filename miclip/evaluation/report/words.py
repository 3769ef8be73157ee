"""What the report calls methods, units, queries and scales."""

from __future__ import annotations

DEFAULT = "attribution"
"""miclip's localisation."""
CONTROLS = ("random", "shuffled")
WHITE_BOX = ("weight_x_activation", "oracle")
OURS = ("filter", "pattern", "causal", DEFAULT)
GOAL = 90.0
"""Share of the white-box oracle, in percent, that the default is meant to reach."""
NO_MEASURE = 5.0
"""Times an oracle from which on a share says only that the oracle itself does next to nothing."""

_METHODS = {
    "default": "miclip's label",
    "attribution": "attribution store",
    "filter": "filter (the paper)",
    "clip_dissect": "CLIP-Dissect",
    "semanticlens": "SemanticLens-style",
    "network_dissection": "Network Dissection",
    "z_mean_activation": "z-scored activation",
    "weight_x_activation": "weight × activation",
    "random": "random units",
    "shuffled": "another query's units",
    "auprc": "AUPRC",
    "f1": "F1",
    "iou": "IoU",
    "clip": "CLIP's text tower",
    "sentence": "sentence embedder",
}
_KINDS = {
    "localization": "class names",
    "names": "class names",
    "categories": "super-categories",
    "unseen": "names of unseen classes",
}
SCALES = {"scale_2": "×2, doubled", "scale_0": "×0, removed"}
SIGNS = {"scale_2": 1, "scale_0": -1}
"""What is wanted: a gain, or a loss."""


def method_words(name: str) -> str:
    """Return what readers call a method."""
    return _METHODS.get(name, name.replace("_", " "))


def kind_words(name: str) -> str:
    """Return what readers call a kind of query."""
    return _KINDS.get(name, name.replace("_", " "))


def method_family(name: str) -> str:
    """Return ``default``, ``ours``, ``control``, ``whitebox`` or ``baseline``."""
    if name in (DEFAULT, "default"):
        return "default"
    for family, names in (("ours", OURS), ("control", CONTROLS), ("whitebox", WHITE_BOX)):
        if name in names:
            return family
    return "baseline"


def signed(value: float, digits: int = 1) -> str:
    """Format a change with its sign and a true minus; zero has none."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


def plain_number(value: float, digits: int = 2) -> str:
    """Format a number with a true minus."""
    return f"{value:.{digits}f}".replace("-", "−")
