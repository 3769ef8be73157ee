"""How near the labels of the logits are to the names of their classes, over open vocabularies.

The protocol of CLIP-Dissect and of the paper: a unit's label is the best concept of a vocabulary that need not hold
the class's name; similarity is the cosine of the two texts, once by CLIP's text tower and once by a second embedder
that had no part in the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import normalise
from miclip.evaluation.sentences import Embed

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

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

    def summary(self, labels: Sequence[Int64]) -> dict[str, Any]:
        """Summarise one method's labels.

        Args:
            labels: Per seed, the concept of each class's unit, int64 ``[K]``.

        Returns:
            ``exact``: share of the units labelled with their class's very name, in percent, of those whose name is in
            the vocabulary (None where none is). By measure, the mean cosine of label and name over units, its 95 %
            ``…_interval`` and, under ``null``, the same mean with labels shuffled among units.
        """
        units, stacked = np.arange(len(self._own)), np.stack(labels)
        named = self._own >= 0
        exact = 100.0 * float((stacked == self._own)[:, named].mean()) if named.any() else None
        found: dict[str, Any] = {"exact": exact, "null": {}}
        for name, similarity in self._measures.items():
            by_unit = similarity[units, stacked].mean(axis=0)
            rows = np.random.default_rng(0).integers(len(units), size=(RESAMPLES, len(units)))
            low, high = np.percentile(by_unit[rows].mean(axis=1), [2.5, 97.5])
            found |= {name: float(by_unit.mean()), f"{name}_interval": [float(low), float(high)]}
            # every pair of a unit and another unit's label: the mean over all shuffles
            pairs = similarity[:, stacked.ravel()].sum() - similarity[units, stacked].sum()
            found["null"][name] = float(pairs / (stacked.size * max(len(units) - 1, 1)))
        return found
