"""Queries: texts that people type, with the classes that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Query:
    """A text and what it is about.

    Attributes:
        text: What is typed.
        classes: Classes that it covers, at least one; an answer is judged by their mean.
    """

    text: str
    classes: tuple[int, ...]


def class_names(labels: Sequence[str]) -> tuple[Query, ...]:
    """Return one query a class: its name."""
    return tuple(Query(label, (index,)) for index, label in enumerate(labels))


def coverage(queries: Sequence[Query], classes: int) -> NDArray[np.float32]:
    """Return the share of each class in each query, float32 ``[Q, K]``; rows sum to 1.

    Scores by class, ``[K, d]``, become scores by query as ``coverage @ scores``: how a method that knows only classes
    answers a text, told which classes it covers.
    """
    shares = np.zeros((len(queries), classes), np.float32)
    for row, query in enumerate(queries):
        shares[row, list(query.classes)] = 1 / len(query.classes)
    return shares


def spread(queries: Sequence[Query], most: int) -> tuple[Query, ...]:
    """Return at most ``most`` of the queries, evenly spread over their order."""
    kept = min(most, len(queries))
    return tuple(queries[index * len(queries) // kept] for index in range(kept))
