"""What searches of an atlas return: the same values from the library, the client and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miclip.evidence import Evidence
from miclip.kinds import LocalizationMethod, Ranking, TraceMeasure, UnitEmbedding
from miclip.models.predictions import Prediction
from miclip.names import UnitName

if TYPE_CHECKING:  # a client that only reads labels need not import NumPy
    import numpy as np
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]

DEFAULT_TOP_K = 5
"""Entries of a list where nothing else is asked for: concepts of a unit, units of a concept, labels of an image."""


@dataclass(frozen=True)
class OfUnit:
    """A value about one unit, whose ``name`` says the model, the layer and the unit."""

    name: UnitName

    @property
    def layer(self) -> str:
        """The unit's layer, without the model."""
        return self.name.layer

    @property
    def unit(self) -> int:
        """The unit, counted from 0 within its layer."""
        return self.name.unit


@dataclass(frozen=True)
class Provenance:
    """What an answer was computed from.

    Attributes:
        atlas: ``atlases/{sha256}``.
        clip_id: The CLIP model that the atlas was made with.
        vocabulary_sha256: Of the concepts to choose from; empty where there were none.
        probe_sha256: Of the probe images.
        encoder_sha256: Of the files that hold the neuron encoders, one a layer.
        layers: Full names of the layers.
        weights_sha256: Of the target model.
    """

    atlas: str
    clip_id: str
    vocabulary_sha256: str
    probe_sha256: str
    encoder_sha256: tuple[str, ...]
    layers: tuple[str, ...]
    weights_sha256: str


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
class Description(OfUnit):
    """What a unit means.

    Attributes:
        concepts: Concepts near the unit, best first.
        margin: Lead of the first concept over the second in what ranked them, 0 or more: causal scores in logits, or
            cosines, 0 to 2. 0 if the vocabulary has one concept.
        null_percentile: Share of random directions of the layer whose best concept stands out less, 0 to 100; measured
            by the contrast where causal scores rank, else by the cosine.
        abstained: Whether ``null_percentile`` is below ``settings().abstain_percentile``, or the contrast below the
            threshold that the alignment calibrated: the label is not to be trusted then.
        embedding: Which vector stood for the unit.
        ranking: What the concepts are ranked by.
        contrast: Standard deviations by which the first concept's causal score exceeds the mean over the model's
            labels; None where the atlas does not know it.
        stability: Share of the alignment's further encoders, of other seeds and images, that give the unit the same
            label of the model's, 0 to 1; None where the atlas does not know it.
        atlas: ``atlases/{sha256}`` of the atlas that answers.
    """

    concepts: tuple[ScoredConcept, ...]
    margin: float
    null_percentile: float
    abstained: bool
    embedding: UnitEmbedding
    ranking: Ranking
    contrast: float | None
    stability: float | None
    atlas: str


@dataclass(frozen=True)
class DescribeResult:
    """Answer of ``describe``, one entry a unit in the order asked; ``timings`` are seconds by stage."""

    descriptions: tuple[Description, ...]
    provenance: Provenance
    timings: Mapping[str, float]


@dataclass(frozen=True)
class LocatedUnit(OfUnit):
    """A unit with its strength for a query: a cosine, or a mean attribution in logits."""

    score: float


@dataclass(frozen=True)
class Localization:
    """The strongest units of one query, best first, over all layers searched.

    Attributes:
        concept: The query's text; empty for an image.
        model: The target model.
        method: How the units were ranked.
        units: The units.
        mass: Least share of the softmax's weight that the gathered probe rows carried, 0 to 1; 1 for cosines.
        evidence: In the layer searched where it is weakest; None where cosines ranked.
        atlas: ``atlases/{sha256}`` of the atlas that answers.
    """

    concept: str
    model: str
    method: LocalizationMethod
    units: tuple[LocatedUnit, ...]
    mass: float
    evidence: Evidence | None
    atlas: str


@dataclass(frozen=True)
class LocalizeResult:
    """Answer of ``localize``: the texts in order, then the images in order; ``timings`` are seconds by stage."""

    localizations: tuple[Localization, ...]
    provenance: Provenance
    timings: Mapping[str, float]


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
class UnitStatistics(OfUnit):
    """Statistics of a unit's pooled activation over the probe rows, in units of the activation."""

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
        description: The unit's concepts among the model's labels.
    """

    statistics: UnitStatistics
    histogram_edges: tuple[float, ...]
    histogram_counts: tuple[int, ...]
    top_images: tuple[TopImage, ...]
    neighbours: tuple[LocatedUnit, ...]
    description: Description


@dataclass(frozen=True)
class Embeddings:
    """Points of the shared space.

    Attributes:
        values: float32 ``[n, D]``, rows of length 1.
        clip_id: The CLIP model that made them.
        provenance: Of units; None for texts and images.
    """

    values: Float32
    clip_id: str
    provenance: Provenance | None = None


@dataclass(frozen=True)
class LayerTrace:
    """What an image is about at a layer.

    Attributes:
        layer: The layer, without the model.
        scores: One a concept, in the order asked: the cosine of the image's representation and the concept, -1 to 1;
            at the logits the probability, 0 to 1, of the label that stands for the concept (``TraceResult.labels``).
        measure: What the scores are.
    """

    layer: str
    scores: tuple[float, ...]
    measure: TraceMeasure = "cosine"


@dataclass(frozen=True)
class ImageTrace:
    """What an image is about at every aligned layer, from the input to the logits, and its strongest labels.

    The last layer is always the logits, whose order is that of the prediction.
    """

    layers: tuple[LayerTrace, ...]
    predictions: tuple[Prediction, ...]

    def takeover(self, expected: int, against: int) -> str | None:
        """Return the first layer from which on a wrong concept stays above the expected one.

        Args:
            expected: Place of the concept that should be nearest.
            against: Place of the wrong concept.

        Returns:
            The layer; None where the last layer, the model's answer, gives the expected concept at least as much.
        """
        first = None
        for layer in self.layers:
            above = layer.scores[against] > layer.scores[expected]
            first = (first or layer.layer) if above else None
        return first


@dataclass(frozen=True)
class TraceResult:
    """Answer of ``trace``, one entry an image in the order asked.

    Attributes:
        concepts: What the scores of a layer are of, in order.
        labels: The model's label that stands for each concept at the logits: that of the same text, else the nearest.
        traces: What each image is about.
        provenance: What the answer was computed from.
        timings: Seconds by stage.
    """

    concepts: tuple[str, ...]
    labels: tuple[str, ...]
    traces: tuple[ImageTrace, ...]
    provenance: Provenance
    timings: Mapping[str, float]
