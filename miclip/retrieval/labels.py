"""Labels: the concepts near a unit, ranked by what the unit does, and how far to trust the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, LayerAtlas, contrast
from miclip.kinds import Ranking, UnitEmbedding
from miclip.names import UnitName
from miclip.retrieval.results import Description, ScoredConcept
from miclip.retrieval.vocabulary import Vocabulary
from miclip.settings import settings

ABSTAIN_CONTRAST = "abstain_contrast"
"""Layer metric: the contrast below which labels are not right often enough, calibrated by the alignment."""


@dataclass(frozen=True)
class Candidates:
    """Concepts of some units, best first.

    Attributes:
        units: Units [n].
        concepts: Places in the vocabulary [n, m].
        cosines: Cosines with the unit's embedding [n, m].
        effects: Causal scores [n, m], in logits.
    """

    units: NDArray[np.int64]
    concepts: NDArray[np.int64]
    cosines: NDArray[np.float32]
    effects: NDArray[np.float32]

    def ranked(self, shortlist: int) -> Candidates:
        """Rank the first ``shortlist`` concepts by their causal score; the others keep their places behind them."""
        order = np.argsort(-self.effects[:, :shortlist], axis=1, kind="stable")
        order = np.hstack([order, np.tile(np.arange(order.shape[1], self.concepts.shape[1]), (len(order), 1))])
        concepts, cosines = np.take_along_axis(self.concepts, order, 1), np.take_along_axis(self.cosines, order, 1)
        return Candidates(self.units, concepts, cosines, np.take_along_axis(self.effects, order, 1))


def judge(
    layer: LayerAtlas,
    found: Candidates,
    vocabulary: Vocabulary,
    count: int,
    embedding: UnitEmbedding,
    null: NDArray[np.float32],
    ranking: Ranking,
    atlas: Atlas,
) -> list[Description]:
    """Return descriptions of ranked candidates, with the evidence for the first.

    Args:
        layer: The units' layer.
        found: Candidates, at least two a unit where the vocabulary has them.
        vocabulary: What their concepts are places of.
        count: Concepts to keep.
        embedding: The vector that stood for a unit.
        null: Percentiles 0 to 100 [101] of the best candidate of random directions: contrasts where causal scores
            ranked the candidates, else cosines.
        ranking: What ranked the candidates.
        atlas: The atlas that the layer is of.
    """
    by_effect, contrasts = ranking == "causal_score", _contrasts(layer, found)
    scores = found.effects if by_effect else found.cosines
    lead = scores[:, 0] - scores[:, 1] if scores.shape[1] > 1 else np.zeros(len(scores))
    percentiles = np.interp(contrasts if by_effect else scores[:, 0], null, np.arange(len(null)))
    weak = percentiles < settings().abstain_percentile
    if by_effect:
        weak |= contrasts < layer.entry.metrics.get(ABSTAIN_CONTRAST, -np.inf)
    return [
        Description(
            UnitName(atlas.manifest.model, layer.entry.name, int(unit)),
            _concepts(vocabulary, found, row, count),
            margin=float(lead[row]),
            null_percentile=float(percentiles[row]),
            abstained=bool(weak[row]),
            embedding=embedding,
            ranking=ranking,
            contrast=None if np.isnan(contrasts[row]) else float(contrasts[row]),
            stability=None if layer.stability is None else float(layer.stability[unit]),
            atlas=atlas.name,
        )
        for row, unit in enumerate(found.units)
    ]


def _contrasts(layer: LayerAtlas, found: Candidates) -> NDArray[np.float32]:
    """Contrast of every unit's first concept [n]; NaN where the atlas does not know it."""
    mean, std = layer.effect_mean, layer.effect_std
    if mean is None or std is None:
        return np.full(len(found.units), np.nan, np.float32)
    return contrast(found.effects[:, 0], mean[found.units], std[found.units])


def _concepts(vocabulary: Vocabulary, found: Candidates, row: int, count: int) -> tuple[ScoredConcept, ...]:
    columns = (found.concepts[row, :count], found.cosines[row, :count], found.effects[row, :count])
    return tuple(
        ScoredConcept(int(place), vocabulary.concepts[place], float(cosine), float(effect))
        for place, cosine, effect in zip(*columns, strict=True)
    )
