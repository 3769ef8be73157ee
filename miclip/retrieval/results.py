"""What searches of an atlas return: the same values from the library, the client and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miclip.evidence import Evidence
from miclip.kinds import LocalizationMethod, Ranking, TraceMeasure, UnitEmbedding
from miclip.models.predictions import Prediction
from miclip.names import UnitName
from miclip.promise import AbstainReason, Promise, Verdict

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
            attribution on the probe images that are about the concept, in logits per unit of gain. Below 0 the unit
            suppresses the concept.
        activation: By how many standard deviations the unit is more active on those images than on all.
    """

    index: int
    concept: str
    score: float
    causal_score: float
    activation: float


@dataclass(frozen=True)
class Description(OfUnit):
    """What a unit means.

    Attributes:
        concepts: What the unit drives: concepts near it, best first.
        active_for: What excites it: concepts on whose probe images it is most active, best first; those above the mean.
        suppresses: What it lowers: concepts whose logits fall most, beyond chance, strongest first; often none.
        margin: Lead of the first concept over the second in what ranked them, 0 or more: causal scores in logits, or
            cosines, 0 to 2. 0 if the vocabulary has one concept.
        null_percentile: Share of random directions of the layer whose best concept stands out less, 0 to 100; measured
            by the contrast where causal scores rank, else by the cosine.
        abstained: Whether the first concept is not to be trusted as a label.
        reason: Why; empty where it is to be trusted.
        embedding: Which vector stood for the unit.
        ranking: What the concepts are ranked by.
        contrast: Standard deviations by which the first concept's causal score exceeds the mean over the model's
            labels; None where the atlas does not know it.
        stability: Share of the alignment's further encoders, of other seeds and images, that give the unit the same
            label of the model's, 0 to 1; None where the atlas does not know it.
        confidence: How often the unit's label among the model's held on images left out, 0 to 1; None where the atlas
            does not know it.
        promise: How often kept labels of its layer were right on images left out; None where that was not tried, and of
            the logits, whose labels are the names of their classes.
        atlas: ``atlases/{sha256}`` of the atlas that answers.
    """

    concepts: tuple[ScoredConcept, ...]
    active_for: tuple[ScoredConcept, ...]
    suppresses: tuple[ScoredConcept, ...]
    margin: float
    null_percentile: float
    abstained: bool
    reason: AbstainReason
    embedding: UnitEmbedding
    ranking: Ranking
    contrast: float | None
    stability: float | None
    confidence: float | None
    promise: Promise | None
    atlas: str


@dataclass(frozen=True)
class DescribeResult:
    """Answer of ``describe``.

    Attributes:
        descriptions: One a unit, in the order asked.
        verdict: Whether the probe images can tell what units mean; None where the atlas does not know it.
        provenance: What the answer was computed from.
        timings: Seconds by stage.
    """

    descriptions: tuple[Description, ...]
    verdict: Verdict | None
    provenance: Provenance
    timings: Mapping[str, float]


@dataclass(frozen=True)
class LocatedUnit(OfUnit):
    """A unit with its strength for a query.

    Attributes:
        score: A cosine, or a mean attribution in logits.
        share: Of an attribution: the score as a share of the layer's, -1 to 1, whose units' magnitudes sum to 1; by it
            units of several layers are ranked. 0 for cosines.
    """

    score: float
    share: float = 0.0


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
    """How much mechanism, images and text say about whether an output, or a probe image, is about a query.

    Attributes:
        mechanism: Weight of cos(E_n(a), query), of the activations.
        input: Weight of cos(E_i(x), query), of the images.
        output: Weight of cos(E_c(label), query), of the output's label, or the predicted one.
        unnamed: What the cosine with the images of an output without a known name is multiplied by.
    """

    mechanism: float = 0.0
    input: float = 0.5
    output: float = 0.5
    unnamed: float = 2.5

    def __post_init__(self) -> None:
        weights = (self.mechanism, self.input, self.output)
        if min(*weights, self.unnamed) < 0 or not 0 < sum(weights) < float("inf"):
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
    """A probe row on which a unit is strong: row, image name and activation.

    Its thumbnail, WebP, is empty unless asked for, and where the atlas has none.
    """

    row: int
    image: str
    value: float
    thumbnail: bytes = b""


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
