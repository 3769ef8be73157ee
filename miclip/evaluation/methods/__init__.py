"""The methods that the evaluation compares: each a module of this package that registers itself.

To add one, add a module with a tuple ``METHODS`` of :class:`Method`; nothing else has to know of it. Figures, tables,
report and documents take names, titles and order from there. Modules whose names begin with an underscore are what
methods are made of.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods._data import LayerData, Positions, ProbeData, class_means, dense
from miclip.evaluation.methods._method import Asked, Labels, Method, Price
from miclip.evaluation.methods._ranks import by_class, by_text, label_by_class, label_by_text, ranking
from miclip.evaluation.methods.searches import trusted
from miclip.evaluation.queries import Query
from miclip.retrieval.vocabulary import Vocabulary

__all__ = [
    "DEFAULT",
    "METHODS",
    "Asked",
    "Labels",
    "LayerData",
    "Method",
    "Positions",
    "Price",
    "ProbeData",
    "by_class",
    "by_text",
    "class_means",
    "dense",
    "describe_units",
    "label_by_class",
    "label_by_text",
    "label_units",
    "named",
    "rank_units",
    "ranking",
    "trusted_queries",
]


def _discovered() -> tuple[Method, ...]:
    """Import every module of this package and return the methods that they register, in their order."""
    modules = [name for _, name, _ in pkgutil.iter_modules(__path__) if not name.startswith("_")]
    methods = [method for name in modules for method in import_module(f"{__name__}.{name}").METHODS]
    methods.sort(key=lambda method: method.order)
    for what, values in (("name", [m.name for m in methods]), ("order", [m.order for m in methods])):
        if len(set(values)) < len(values):
            raise ValueError(f"Two methods of {__name__} have the same {what}: {sorted(map(str, values))}.")
    return tuple(methods)


METHODS = _discovered()
"""All methods in the order of tables."""
DEFAULT = next(method.name for method in METHODS if method.role == "default" and method.rank)
"""miclip's localisation."""


def named(*roles: str) -> tuple[str, ...]:
    """Return the names of the methods that rank units, of some roles or of all, in order."""
    return tuple(method.name for method in METHODS if method.rank and (not roles or method.role in roles))


def rank_units(
    data: LayerData, queries: Sequence[Query], texts: NDArray[np.float32], top: int, *, by_text_alone: bool = False
) -> dict[str, NDArray[np.int64]]:
    """Return each method's units for every query, best first, int64 ``[Q, ≤ top]``.

    Args:
        data: The layer.
        queries: What is asked, Q at least 1.
        texts: The queries' CLIP text embeddings, normalised, float32 ``[Q, D]``.
        top: Units wanted.
        by_text_alone: Ask only the methods that need nothing but a text.
    """
    asked = Asked(tuple(queries), texts, top)
    methods = [method for method in METHODS if method.rank and (method.by_text_alone or not by_text_alone)]
    ranked = {method.name: method.rank(data, asked) for method in methods if method.rank}
    return {name: units for name, units in ranked.items() if units is not None}


def trusted_queries(
    data: LayerData, queries: Sequence[Query], texts: NDArray[np.float32], top: int
) -> NDArray[np.bool_]:
    """Return which queries miclip's localisation does not call doubtful, ``[Q]``; arguments as of ``rank_units``."""
    return trusted(data, Asked(tuple(queries), texts, top))


def label_units(data: LayerData) -> dict[str, Labels]:
    """Return each labelling method's label of every unit, of the model's labels; miclip's own methods come first."""
    return _labelled(data, None)


def describe_units(data: LayerData, vocabulary: Vocabulary) -> dict[str, NDArray[np.int64]]:
    """Return the concept of every unit by the methods that can choose from any vocabulary, int64 ``[d]``."""
    return {name: labels.concepts for name, labels in _labelled(data, vocabulary).items()}


def _labelled(data: LayerData, vocabulary: Vocabulary | None) -> dict[str, Labels]:
    methods = sorted(METHODS, key=lambda method: method.role not in ("default", "ours"))
    labels = {method.name: method.label(data, vocabulary) for method in methods if method.label}
    return {name: found for name, found in labels.items() if found is not None}
