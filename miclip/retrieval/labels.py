"""Labels: the concepts near a unit, ranked by what the unit does, and how far to trust the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, LayerAtlas, contrast
from miclip.kinds import Ranking, UnitEmbedding
from miclip.names import UnitName
from miclip.promise import AbstainReason
from miclip.retrieval.results import Description, ScoredConcept
from miclip.retrieval.vocabulary import Vocabulary
from miclip.settings import settings

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ABSTAIN_CONTRAST = "abstain_contrast"
"""Layer metric of atlases without a promise: the contrast below which labels are not right often enough."""


@dataclass(frozen=True)
class Candidates:
    """Concepts of some units, best first.

    Attributes:
        units: Units [n].
        concepts: Places in the vocabulary [n, m].
        cosines: Cosines with the unit's embedding [n, m].
        effects: Causal scores [n, m], in logits.
        activations: By how many standard deviations a unit is more active for the concept [n, m].
    """

    units: Int64
    concepts: Int64
    cosines: Float32
    effects: Float32
    activations: Float32

    def ranked(self, shortlist: int) -> Candidates:
        """Rank the first ``shortlist`` concepts by their causal score; the others keep their places behind them."""
        order = np.argsort(-self.effects[:, :shortlist], axis=1, kind="stable")
        rest = np.tile(np.arange(order.shape[1], self.concepts.shape[1]), (len(order), 1))
        return self._ordered(np.hstack([order, rest]))

    def by_activation(self, count: int) -> Candidates:
        """The ``count`` concepts on which each unit is most active."""
        return self._ordered(np.argsort(-self.activations, axis=1, kind="stable")[:, :count])

    def by_suppression(self, count: int) -> Candidates:
        """The ``count`` concepts that each unit lowers most."""
        return self._ordered(np.argsort(self.effects, axis=1, kind="stable")[:, :count])

    def led_by(self, first: Int64) -> Int64:
        """Return the concepts [n, m] with those of ``first`` [n] put in front."""
        others = [row[row != own] for row, own in zip(self.concepts, first, strict=True)]
        width = self.concepts.shape[1]
        return np.stack([np.append(own, row)[:width] for own, row in zip(first, others, strict=True)])

    def _ordered(self, order: Int64) -> Candidates:
        cosines, effects = np.take_along_axis(self.cosines, order, 1), np.take_along_axis(self.effects, order, 1)
        activations = np.take_along_axis(self.activations, order, 1)
        return Candidates(self.units, np.take_along_axis(self.concepts, order, 1), cosines, effects, activations)

    def scored(self, vocabulary: Vocabulary, row: int, places: NDArray[np.integer]) -> tuple[ScoredConcept, ...]:
        """Return the concepts of the unit in ``row`` at some places of its list."""
        return tuple(
            ScoredConcept(
                int(self.concepts[row, at]),
                vocabulary.concepts[self.concepts[row, at]],
                float(self.cosines[row, at]),
                float(self.effects[row, at]),
                float(self.activations[row, at]),
            )
            for at in places
        )


@dataclass(frozen=True)
class Lists:
    """What units drive (two concepts or more, where the vocabulary has them), what excites them, what they lower."""

    drives: Candidates
    active_for: Candidates
    suppresses: Candidates


@dataclass(frozen=True)
class Kept:
    """How units are described.

    Attributes:
        count: Concepts to keep.
        embedding: The vector that stood for a unit.
        ranking: What ranked the concepts that a unit drives.
        null: Percentiles 0 to 100 [101] of the best concept of random directions: contrasts where causal scores ranked
            the concepts, else cosines.
        of_model: Whether the concepts are the model's own labels.
        named: Whether units are named by their class, as those of the logits are.
    """

    count: int
    embedding: UnitEmbedding
    ranking: Ranking
    null: Float32
    of_model: bool
    named: bool = False


def judge(atlas: Atlas, layer: str, lists: Lists, vocabulary: Vocabulary, kept: Kept) -> list[Description]:
    """Return descriptions of units, with the evidence for the first concept that each drives.

    Args:
        atlas: The atlas.
        layer: The units' layer.
        lists: Their concepts.
        vocabulary: What the concepts are places of.
        kept: How the units are described.
    """
    record, found = atlas.layer(layer), lists.drives
    by_effect, contrasts = kept.ranking == "causal_score", _contrasts(record, found.units, found.effects[:, 0])
    scores = found.effects if by_effect else found.cosines
    lead = np.maximum(scores[:, 0] - scores[:, 1], 0) if scores.shape[1] > 1 else np.zeros(len(scores))
    percentiles = np.interp(contrasts if by_effect else scores[:, 0], kept.null, np.arange(len(kept.null)))
    reasons = _reasons(atlas, record, found, kept, percentiles, contrasts)
    lowered = _lowered(record, lists.suppresses)
    return [
        Description(
            UnitName(atlas.manifest.model, layer, int(unit)),
            found.scored(vocabulary, row, np.arange(min(kept.count, found.concepts.shape[1]))),
            lists.active_for.scored(vocabulary, row, np.flatnonzero(lists.active_for.activations[row] > 0)),
            lists.suppresses.scored(vocabulary, row, np.flatnonzero(lowered[row])),
            margin=float(lead[row]),
            null_percentile=float(percentiles[row]),
            abstained=bool(reasons[row]),
            reason=reasons[row],
            embedding=kept.embedding,
            ranking=kept.ranking,
            contrast=None if np.isnan(contrasts[row]) else float(contrasts[row]),
            stability=None if record.stability is None else float(record.stability[unit]),
            confidence=None if record.confidence is None else float(record.confidence[unit]),
            promise=record.entry.promise,
            atlas=atlas.name,
        )
        for row, unit in enumerate(found.units)
    ]


def _reasons(
    atlas: Atlas,
    record: LayerAtlas,
    found: Candidates,
    kept: Kept,
    percentiles: NDArray[np.floating],
    contrasts: Float32,
) -> list[AbstainReason]:
    """Why each unit's first concept is not to be trusted, the gravest reason; empty where it is."""
    verdict, promise = atlas.manifest.verdict, record.entry.promise
    unknown = verdict is not None and not verdict.known
    tried = promise is not None and record.confidence is not None and kept.ranking == "causal_score"
    reasons: list[AbstainReason] = []
    for row, unit in enumerate(found.units):
        chance = percentiles[row] < settings().abstain_percentile
        if unknown:
            reasons.append("promise")
        elif kept.named:
            reasons.append("")
        elif found.effects[row, 0] <= 0:
            reasons.append("effect")
        elif tried and promise is not None and not promise.reached:
            reasons.append("promise")
        elif tried and promise is not None and record.confidence is not None:
            sure = record.confidence[unit] >= promise.confidence
            # trials are of the model's labels; another concept has to stand out by itself
            reasons.append("confidence" if not sure else "chance" if chance and not kept.of_model else "")
        else:
            weak = contrasts[row] < record.entry.metrics.get(ABSTAIN_CONTRAST, -np.inf)
            reasons.append("chance" if chance else "confidence" if weak and kept.ranking == "causal_score" else "")
    return reasons


def _contrasts(layer: LayerAtlas, units: Int64, effects: Float32) -> Float32:
    """Contrast of effects [n] of units [n]; NaN where the atlas does not know it."""
    mean, std = layer.effect_mean, layer.effect_std
    if mean is None or std is None:
        return np.full(len(units), np.nan, np.float32)
    return contrast(effects, mean[units], std[units])


def _lowered(layer: LayerAtlas, found: Candidates) -> NDArray[np.bool_]:
    """Whether concepts [n, m] are lowered further than labels are raised by chance."""
    mean, std, null = layer.effect_mean, layer.effect_std, layer.null_contrast
    if mean is None or std is None or null is None:
        return np.zeros(found.concepts.shape, bool)
    least = np.interp(settings().abstain_percentile, np.arange(len(null)), null)
    units = found.units[:, None]
    return (found.effects < 0) & (contrast(-found.effects, -mean[units], std[units]) >= least)
