"""What searches return; plain values."""

from __future__ import annotations

from dataclasses import dataclass

from miclip.kinds import Ranking, UnitEmbedding


@dataclass(frozen=True)
class ScoredConcept:
    """A concept near a unit.

    Attributes:
        index: Its place in the vocabulary.
        concept: Its text.
        score: Cosine with the unit's embedding, -1 to 1.
        causal_score: Change of the concept's logits under a small edit of the unit, to first order: the unit's mean
            attribution on the probe images that are about the concept, in logits per unit of gain.
    """

    index: int
    concept: str
    score: float
    causal_score: float


@dataclass(frozen=True)
class Description:
    """What a unit means.

    Attributes:
        layer: The unit's layer.
        unit: The unit, counted from 0.
        concepts: Concepts near the unit, best first.
        margin: Lead of the first concept over the second in what ranked them, 0 or more: causal scores in logits, or
            cosines, 0 to 2. 0 if the vocabulary has one concept.
        null_percentile: Share of random directions of the layer whose best concept stands out less, 0 to 100; measured
            by the contrast where causal scores rank, else by the cosine.
        abstained: Whether ``null_percentile`` is below ``settings().abstain_percentile``, or the contrast below the
            threshold that the alignment calibrated: the label is not to be trusted then.
        embedding: Which vector stood for the unit.
        ranked_by: What the concepts are ranked by.
        contrast: Standard deviations by which the first concept's causal score exceeds the mean over the model's
            labels; None where the atlas does not know it.
        stability: Share of the alignment's further encoders, of other seeds and images, that give the unit the same
            label of the model's, 0 to 1; None where the atlas does not know it.
    """

    layer: str
    unit: int
    concepts: tuple[ScoredConcept, ...]
    margin: float
    null_percentile: float
    abstained: bool
    embedding: UnitEmbedding
    ranked_by: Ranking
    contrast: float | None
    stability: float | None


@dataclass(frozen=True)
class LocatedUnit:
    """A unit with its strength for a query: a cosine, or a mean attribution in logits."""

    layer: str
    unit: int
    score: float


@dataclass(frozen=True)
class LabelShare:
    """A predicted label with its share of the weight of a query's probe rows, above 0 to 1."""

    index: int
    label: str
    share: float


@dataclass(frozen=True)
class Evidence:
    """What the probe images have to say about a query: how far its localisation is to be trusted.

    Attributes:
        relevance: Mean relevance of the probe images that were weighed, -1 to 1.
        null_percentile: Share of a null that is less relevant, 0 to 100: the model's labels (for an image: probe
            images), each with every image taken away that the model predicts as it.
        doubtful: Whether ``null_percentile`` is below ``settings().doubt_percentile``: the probe images show the query
            no better than something they do not show, and its units are then most likely those of something else.
        labels: What the model predicted for the images, heaviest first: what the units are those of.
    """

    relevance: float
    null_percentile: float
    doubtful: bool
    labels: tuple[LabelShare, ...]


@dataclass(frozen=True)
class Localization:
    """The strongest units of one query, best first, over all layers searched.

    Attributes:
        units: The units.
        mass: Least share of the softmax's weight that the gathered probe rows carried, 0 to 1; 1 for cosines.
        evidence: In the layer searched where it is weakest; None where cosines ranked.
    """

    units: tuple[LocatedUnit, ...]
    mass: float
    evidence: Evidence | None = None


@dataclass(frozen=True)
class LocalizationMix:
    """How much the mechanism, the input and the output of a probe image say about whether it shows a query.

    Attributes:
        mechanism: Weight of cos(E_n(a_j), query).
        input: Weight of cos(E_i(x_j), query).
        output: Weight of cos(E_c(ĉ_j), query), of the predicted label.
    """

    mechanism: float = 0.5
    input: float = 0.0
    output: float = 0.5

    def __post_init__(self) -> None:
        weights = (self.mechanism, self.input, self.output)
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise ValueError("the weights of a mix must be at least 0 and not all 0")


@dataclass(frozen=True)
class UnitStatistics:
    """Statistics of a unit's pooled activation over the probe rows, in units of the activation."""

    layer: str
    unit: int
    mean: float
    std: float
    maximum: float
    fraction_nonzero: float


@dataclass(frozen=True)
class TopImage:
    """A probe row on which a unit is strong: row, image name and activation."""

    row: int
    image: str
    value: float


@dataclass(frozen=True)
class UnitRecord:
    """Everything the atlas knows about a unit.

    Attributes:
        statistics: Mean, deviation, maximum, share of non-zero rows.
        histogram_edges: Bin edges, ascending, one more than there are bins.
        histogram_counts: Probe rows per bin.
        top_images: Probe images on which the unit is strongest, strongest first.
        neighbours: The nearest other units of the layer by the cosine of their embeddings, nearest first.
    """

    statistics: UnitStatistics
    histogram_edges: tuple[float, ...]
    histogram_counts: tuple[int, ...]
    top_images: tuple[TopImage, ...]
    neighbours: tuple[LocatedUnit, ...]
