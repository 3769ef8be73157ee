"""What the clients return where a proto message would be awkward; everything else is returned as the proto message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from miclip.v1.resources_pb2 import Provenance

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """A label with its logit and its softmax probability, 0 to 1."""

    label: str
    index: int
    logit: float
    probability: float


@dataclass(frozen=True)
class ImagePrediction:
    """The strongest labels of one image, best first; ``baseline`` is without steering and empty unless asked for."""

    predictions: tuple[Prediction, ...]
    baseline: tuple[Prediction, ...]


@dataclass(frozen=True)
class AppliedSteering:
    """The steering that a request met."""

    outcome: str
    """``none``, ``applied``, ``stopped`` (kill switch) or ``not_in_share``."""
    policy: str
    policy_version: int
    fingerprint: str
    """SHA-256 of the edits that were applied; empty where none was."""
    stale: bool
    """The replica could not refresh its policies and used the last ones it knew."""


@dataclass(frozen=True)
class PredictResult:
    """Answer of ``predict``; ``timings`` are seconds by stage."""

    images: tuple[ImagePrediction, ...]
    steering: AppliedSteering
    timings: Mapping[str, float]
    weights_sha256: str


@dataclass(frozen=True)
class CaptureResult:
    """Answer of ``capture``."""

    activations: Mapping[str, Floats]
    """By layer name: float32 ``[images, units]``, pooled; empty where ``top_k`` was given."""
    strongest: Mapping[str, tuple[tuple[tuple[str, float], ...], ...]]
    """By layer name, then image: (unit name, activation), largest first; empty unless ``top_k`` was given."""
    steering: AppliedSteering
    timings: Mapping[str, float]
    weights_sha256: str


@dataclass(frozen=True)
class Concept:
    """A concept with its place in the vocabulary and the cosine to the unit."""

    text: str
    index: int
    score: float
    causal_score: float
    """Change of the concept's logits under a small edit of the unit, in logits per unit of gain."""


@dataclass(frozen=True)
class UnitDescription:
    """The concepts of one unit, best first."""

    unit: str
    concepts: tuple[Concept, ...]
    margin: float
    """Lead of the first concept over the second in what ranked them: logits, or cosines."""
    null_percentile: float
    """Share of random directions of the layer whose best concept stands out less, in percent."""
    abstained: bool
    """``null_percentile`` or ``contrast`` is too low for the label to be trusted."""
    embedding: str
    """``filter``, ``pattern`` or ``causal``."""
    ranking: str
    """What ranked the concepts: ``causal_score`` or ``cosine``."""
    contrast: float | None
    """Standard deviations by which the first causal score exceeds the unit's mean over the model's labels."""
    stability: float | None
    """Share of further encoders that give the unit the same label of the model's, 0 to 1."""


@dataclass(frozen=True)
class DescribeResult:
    """Answer of ``describe``, one entry a unit in the order asked."""

    descriptions: tuple[UnitDescription, ...]
    provenance: Provenance
    timings: Mapping[str, float]


@dataclass(frozen=True)
class LocatedUnit:
    """A unit with its score: a cosine, or under ``attribution`` mean attribution in logits."""

    unit: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """How far a localisation is to be trusted; see ``LocalizationEvidence`` in the protos."""

    relevance: float
    """Mean relevance of the probe images that were weighed, -1 to 1."""
    null_percentile: float
    """Share of queries about what no probe image shows that are less relevant, 0 to 100."""
    doubtful: bool
    """Whether the units are most likely those of something else."""
    labels: Mapping[str, float]
    """What the model predicted for the images, heaviest first, with its share of the weight."""


@dataclass(frozen=True)
class Localization:
    """The strongest units of one query, best first; ``text`` is empty for an image."""

    text: str
    units: tuple[LocatedUnit, ...]
    evidence: Evidence | None
    """None where cosines ranked them."""


@dataclass(frozen=True)
class LocalizeResult:
    """Answer of ``localize``: the texts in order, then the images in order."""

    localizations: tuple[Localization, ...]
    method: str
    provenance: Provenance
    timings: Mapping[str, float]


@dataclass(frozen=True)
class Embeddings:
    """Points of the shared space: float32 ``[n, D]``, rows of length 1, made by the CLIP model ``clip_id``."""

    values: Floats
    clip_id: str
    provenance: Provenance | None = None
    """Of units; None for texts and images."""


@dataclass(frozen=True)
class TraceResult:
    """Answer of ``trace``."""

    layers: tuple[str, ...]
    """Full names of the aligned layers, from the input to the logits."""
    concepts: tuple[str, ...]
    scores: Floats
    """Cosines, float32 ``[images, layers, concepts]``; see ``miclip.retrieval.image_trace.takeover``."""
    predictions: tuple[tuple[Prediction, ...], ...]
    """The strongest labels of every image without steering, best first."""
    provenance: Provenance
    timings: Mapping[str, float]
