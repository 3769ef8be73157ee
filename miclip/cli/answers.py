"""What the commands show, the same whether a server or the library alone answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypedDict

from miclip.cli.specs import UnitSteer
from miclip.names import UnitName


class LayerInfo(TypedDict):
    """A layer of a model: its name without the model, its kind, how many units, and whether the atlas covers it."""

    layer: str
    kind: str
    units: int
    aligned: bool


class ModelInfo(TypedDict):
    """A target model; ``atlas`` is empty where it is not aligned."""

    model: str
    layers: list[LayerInfo]
    atlas: str


class Concept(TypedDict):
    """A concept with its cosine and its causal score in logits."""

    concept: str
    score: float
    causal_score: float


class Description(TypedDict):
    """The concepts of a unit, best first, and how far to trust them."""

    unit: str
    concepts: list[Concept]
    margin: float
    null_percentile: float
    abstained: bool
    embedding: str
    ranking: str
    contrast: float | None
    stability: float | None
    atlas: str


class Located(TypedDict):
    """A unit with its score for a concept."""

    unit: str
    score: float


class LabelShare(TypedDict):
    """A predicted label with its share of the weight of the probe images, above 0 to 1."""

    label: str
    share: float


class Evidence(TypedDict):
    """How far a localisation is to be trusted; see ``LocalizationEvidence`` in the protos."""

    relevance: float
    null_percentile: float
    doubtful: bool
    labels: list[LabelShare]


class Localization(TypedDict):
    """The units of a concept, strongest first; no evidence where cosines ranked them."""

    concept: str
    model: str
    method: str
    units: list[Located]
    evidence: Evidence | None
    atlas: str


class Label(TypedDict):
    """A label with its probability."""

    label: str
    logit: float
    probability: float


class Applied(TypedDict):
    """The steering that a prediction met."""

    outcome: str
    policy: str
    fingerprint: str


class Prediction(TypedDict):
    """What a model says of an image without steering and with it."""

    baseline: list[Label]
    steered: list[Label]
    applied: Applied


class LayerScores(TypedDict):
    """A layer with the cosine of an image's representation and each concept, in the order asked."""

    layer: str
    scores: list[float]


class Trace(TypedDict):
    """What an image is about at every aligned layer, from the input to the logits, and the strongest labels."""

    layers: list[LayerScores]
    predictions: list[Label]
    atlas: str


class Backend(Protocol):
    """Who answers: a server, or the library in this process."""

    def model(self, model: str) -> ModelInfo:
        """Return a model's layers; raises NotFound."""

    def describe(
        self, units: Sequence[UnitName], *, vocabulary: str, concepts: Sequence[str], top_k: int, embedding: str
    ) -> list[Description]:
        """Return the concepts of units of one model, in order."""

    def localize(
        self, model: str, texts: Sequence[str], *, layers: Sequence[str], top_k: int, method: str
    ) -> list[Localization]:
        """Return the units of each text, in order."""

    def predict(self, model: str, image: bytes, *, edits: Sequence[UnitSteer], policy: str, top_k: int) -> Prediction:
        """Classify one image without and with steering."""

    def trace(self, model: str, image: bytes, *, concepts: Sequence[str], top_k: int) -> Trace:
        """Compare one image with concepts at every aligned layer."""


def neuron_layers(info: ModelInfo) -> list[str]:
    """Return the aligned layers of neurons before the logits."""
    return [one["layer"] for one in info["layers"] if one["aligned"] and one["kind"] not in ("features", "logits")]


def default_layer(info: ModelInfo) -> str:
    """Return the layer that says most about concepts: the last aligned one before the logits.

    The logits themselves where nothing else is aligned; never a dictionary.
    """
    inner = neuron_layers(info)
    return inner[-1] if inner else "logits"
