"""What running a target model returns: the same values from the library, the client and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a client that only reads labels need not import NumPy
    import numpy as np
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """A label with its logit and its softmax probability, 0 to 1; ``index`` is its place among the model's labels."""

    label: str
    index: int
    logit: float
    probability: float


@dataclass(frozen=True)
class ImagePrediction:
    """The strongest labels of one image, best first; ``baseline`` is without steering and empty unless asked for."""

    predictions: tuple[Prediction, ...]
    baseline: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class AppliedSteering:
    """The steering that a request met.

    Attributes:
        outcome: What became of it: ``none``, ``applied``, ``stopped`` (kill switch) or ``not_in_share``; of an attached
            model also ``not_found`` or ``expired``.
        policy: ``policies/{id}``; empty without a policy.
        policy_version: Version of the policy; 0 without one.
        fingerprint: SHA-256 of the edits that were applied; empty where none was.
        stale: Whether the replica could not refresh its policies and used the last ones it knew.
    """

    outcome: str
    policy: str = ""
    policy_version: int = 0
    fingerprint: str = ""
    stale: bool = False


@dataclass(frozen=True)
class PredictResult:
    """Answer of ``predict``; ``timings`` are seconds by stage."""

    images: tuple[ImagePrediction, ...]
    steering: AppliedSteering
    timings: Mapping[str, float]
    weights_sha256: str


@dataclass(frozen=True)
class CaptureResult:
    """Answer of ``capture``.

    Attributes:
        activations: By layer name: float32 ``[images, units]``, pooled; empty where ``top_k`` was given.
        strongest: By layer name, then image: (unit name, activation), largest first; empty unless ``top_k`` was given.
        steering: The steering that the request met.
        timings: Seconds by stage.
        weights_sha256: Of the model.
    """

    activations: Mapping[str, Float32]
    strongest: Mapping[str, tuple[tuple[tuple[str, float], ...], ...]]
    steering: AppliedSteering
    timings: Mapping[str, float]
    weights_sha256: str


def softmax(logits: NDArray[np.floating]) -> Float32:
    """Return the probabilities of logits [..., K] as float32; each row sums to 1."""
    import numpy as np

    exact = np.asarray(logits, np.float64)
    powers = np.exp(exact - exact.max(axis=-1, keepdims=True))
    probabilities: Float32 = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


def top_predictions(logits: NDArray[np.floating], labels: Sequence[str], top_k: int) -> tuple[Prediction, ...]:
    """Return the strongest labels of one image, best first.

    Args:
        logits: The image's logits [K].
        labels: The model's labels, K of them.
        top_k: Labels to return; more than there are gives all.
    """
    import numpy as np

    probabilities = softmax(logits)
    best = np.argsort(-logits, kind="stable")[:top_k].tolist()
    return tuple(Prediction(labels[i], i, float(logits[i]), float(probabilities[i])) for i in best)
