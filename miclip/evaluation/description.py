"""How near the labels of the logits are to the names of their classes, over open vocabularies.

The protocol of CLIP-Dissect and of the paper: a unit's label is the best concept of a vocabulary that need not hold
the class's name; similarity is the cosine of the two texts, once by CLIP's text tower and once by a second embedder
that had no part in the labels: WordLlama (averaged token embeddings, 256 dimensions, trained on pairs of sentences; the
package carries the weights), the extra ``evaluation``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import normalise
from miclip.evaluation.figures import NullFigure
from miclip.evaluation.measures import Description

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

Embed = Callable[[Sequence[str]], Float32]
"""Texts → embeddings of length 1, ``[n, S]``."""
RESAMPLES = 1000


class Similarity:
    """Similarities of class names to the concepts of a vocabulary.

    Args:
        names: Names of the classes.
        concepts: The vocabulary.
        embedders: Texts → embeddings, by the name of the measure.
    """

    def __init__(self, names: Sequence[str], concepts: Sequence[str], embedders: Mapping[str, Embed]) -> None:
        self._measures = {
            name: normalise(embed(names)) @ normalise(embed(concepts)).T for name, embed in embedders.items()
        }
        wanted = {concept.lower(): at for at, concept in enumerate(concepts)}
        self._own = np.array([wanted.get(name.lower(), -1) for name in names])

    def summary(self, labels: Sequence[Int64]) -> Description:
        """Summarise one method's labels.

        Args:
            labels: Per seed, the concept of each class's unit, int64 ``[K]``.
        """
        stacked, named = np.stack(labels), self._own >= 0
        exact = 100.0 * float((stacked == self._own)[:, named].mean()) if named.any() else None
        similarity = {name: _similarity(measure, stacked) for name, measure in self._measures.items()}
        return Description(exact=exact, similarity=similarity)


def _similarity(similarity: Float32, labels: Int64) -> NullFigure:
    """Mean similarity ``[K, T]`` of the labels ``[S, K]``; null: the mean over all shuffles of labels among units."""
    units = np.arange(len(similarity))
    by_unit = similarity[units, labels].mean(axis=0)
    rows = np.random.default_rng(0).integers(len(units), size=(RESAMPLES, len(units)))
    low, high = np.percentile(by_unit[rows].mean(axis=1), [2.5, 97.5])
    pairs = similarity[:, labels.ravel()].sum() - similarity[units, labels].sum()  # a unit and another unit's label
    null = float(pairs / (labels.size * max(len(units) - 1, 1)))
    return NullFigure(value=float(by_unit.mean()), low=float(low), high=float(high), null=null)


def sentence_embedder() -> Embed | None:
    """Return the second embedder, or None where the extra ``evaluation`` is not installed."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        return None
    from wordllama import WordLlama

    # by default it looks beside its own files, in folders that have other names
    model = WordLlama.load(cache_dir=Path(spec.origin).parent, disable_download=True)
    return lambda texts: np.asarray(model.embed(list(texts), norm=True), np.float32)
