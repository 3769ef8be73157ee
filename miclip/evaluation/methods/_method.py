"""What a method is to the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.measures import MethodCard, Role
from miclip.evaluation.methods._data import LayerData, ProbeData
from miclip.evaluation.queries import Query
from miclip.retrieval.vocabulary import Vocabulary


@dataclass(frozen=True)
class Asked:
    """Queries that a method answers.

    Attributes:
        queries: The texts and the classes that they cover, Q of them.
        texts: Their CLIP text embeddings, normalised, float32 ``[Q, D]``.
        top: Units wanted.
    """

    queries: tuple[Query, ...]
    texts: NDArray[np.float32]
    top: int


@dataclass(frozen=True)
class Labels:
    """A method's labels.

    Attributes:
        concepts: Concept of every unit, int64 ``[d]``.
        given: Units on which the method does not abstain, ``[d]``; None: it never does.
        sureness: How sure it is of every label, ``[d]``; higher is surer. None: it does not say.
    """

    concepts: NDArray[np.int64]
    given: NDArray[np.bool_] | None = None
    sureness: NDArray[np.floating] | None = None


Rank = Callable[[LayerData, Asked], NDArray[np.int64] | None]
"""Returns the units of every query, best first, int64 ``[Q, ≤ top]``; None where the method cannot be used."""
Label = Callable[[LayerData, Vocabulary | None], Labels | None]
"""Returns the labels, of the model's labels where there is no vocabulary; None where the method cannot be used."""


@dataclass(frozen=True)
class Price:
    """How the cost of a method is measured.

    Attributes:
        needs: Steps that it builds on: ``activations``, ``attributions`` (which give the activations too), ``image
            embeddings``, ``text embeddings``, ``encoder``.
        run: Its own step; None where it has none.
        flops: Floating-point operations of its step, where torch does not see them.
    """

    needs: tuple[str, ...]
    run: Callable[[ProbeData], Any] | None = None
    flops: Callable[[ProbeData], float] | None = None


@dataclass(frozen=True)
class Method:
    """A way to find the units of a query, to label units, or both.

    Attributes:
        name: Its key in results, a Python identifier.
        title: What readers call it.
        knows: What it knows of a query and of the model, after "knows".
        order: Its place in tables; no two methods have the same.
        role: See :data:`miclip.evaluation.result.Role`.
        rank: How it ranks units for queries.
        label: How it labels units.
        by_text_alone: Whether it can be asked for classes that the alignment never saw, knowing nothing but a text.
        price: How its cost is measured; None: it is not.
    """

    name: str
    title: str
    knows: str
    order: int
    role: Role = "baseline"
    rank: Rank | None = None
    label: Label | None = None
    by_text_alone: bool = False
    price: Price | None = None

    @property
    def card(self) -> MethodCard:
        """What the result says of it."""
        return MethodCard(
            name=self.name, title=self.title, knows=self.knows, role=self.role, by_text_alone=self.by_text_alone
        )
