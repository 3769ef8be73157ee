"""What searches return; plain values."""

from __future__ import annotations

from dataclasses import dataclass

from miclip.atlas import UnitEmbedding


@dataclass(frozen=True)
class ScoredConcept:
    """A concept near a unit: its place in the vocabulary, its text, and the cosine, -1 to 1."""

    index: int
    concept: str
    score: float


@dataclass(frozen=True)
class Description:
    """What a unit means.

    Attributes:
        layer: The unit's layer.
        unit: The unit, counted from 0.
        concepts: Nearest concepts, best first.
        margin: Score of the best concept minus that of the second, 0 to 2; 0 if the vocabulary has one concept.
        null_percentile: Share of random directions of the layer whose best concept scores lower, 0 to 100.
        abstained: Whether ``null_percentile`` is below ``settings().abstain_percentile``: the label means nothing then.
        embedding: Which vector stood for the unit.
    """

    layer: str
    unit: int
    concepts: tuple[ScoredConcept, ...]
    margin: float
    null_percentile: float
    abstained: bool
    embedding: UnitEmbedding


@dataclass(frozen=True)
class LocatedUnit:
    """A unit with its strength for a query: a cosine, or a mean attribution in logits."""

    layer: str
    unit: int
    score: float


@dataclass(frozen=True)
class Localization:
    """The strongest units of one query, best first, over all layers searched.

    Attributes:
        units: The units.
        mass: Least share of the softmax's weight that the gathered probe rows carried, 0 to 1; 1 for cosines.
    """

    units: tuple[LocatedUnit, ...]
    mass: float


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
