"""Predictions and captured activations as messages, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from miclip.models.predictions import AppliedSteering, CaptureResult, ImagePrediction, Prediction, PredictResult
from miclip.v1 import activation_pb2 as pb
from miclip.wire.common import read_kind, read_timings


def write_predictions(values: Iterable[Prediction]) -> list[pb.Prediction]:
    """The labels of one image as messages, in order."""
    return [pb.Prediction(**vars(value)) for value in values]


def read_predictions(messages: Iterable[pb.Prediction]) -> tuple[Prediction, ...]:
    """The labels of one image, in order."""
    return tuple(Prediction(one.label, one.index, one.logit, one.probability) for one in messages)


def read_steering(message: pb.AppliedSteering) -> AppliedSteering:
    """The steering that a request met."""
    outcome = read_kind(pb.SteeringOutcome, message.outcome)
    return AppliedSteering(outcome, message.policy, message.policy_version, message.fingerprint, message.stale)


def read_predict_result(response: pb.PredictResponse) -> PredictResult:
    """The answer of ``Predict``."""
    return PredictResult(
        images=tuple(
            ImagePrediction(read_predictions(image.predictions), read_predictions(image.baseline))
            for image in response.results
        ),
        steering=read_steering(response.steering),
        timings=read_timings(response.timings),
        weights_sha256=response.weights_sha256,
    )


def read_capture_result(
    response: pb.CaptureActivationsResponse, layers: Sequence[str], *, strongest: bool
) -> CaptureResult:
    """The answer of ``CaptureActivations``.

    Args:
        response: The answer.
        layers: The layers that were asked for, in order.
        strongest: Whether only the strongest units were asked for.
    """
    columns = dict(zip(layers, zip(*(image.layers for image in response.results), strict=True), strict=True))
    import numpy as np

    values = {layer: np.array([one.values for one in column], np.float32) for layer, column in columns.items()}
    units = {
        layer: tuple(tuple((unit.unit, unit.value) for unit in one.strongest) for one in column)
        for layer, column in columns.items()
    }
    return CaptureResult(
        activations={} if strongest else values,
        strongest=units if strongest else {},
        steering=read_steering(response.steering),
        timings=read_timings(response.timings),
        weights_sha256=response.weights_sha256,
    )
