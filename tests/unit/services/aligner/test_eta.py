"""The time that an alignment will still take."""

from __future__ import annotations

import pytest

from miclip.progress import Progress, Stage, StageKind
from services.aligner.eta import Estimate

ACTIVATIONS, ATLAS = Stage(StageKind.ACTIVATIONS), Stage(StageKind.ATLAS)
ENCODER_A, ENCODER_B = Stage(StageKind.ENCODER, "a"), Stage(StageKind.ENCODER, "b")
LABELS_A = Stage(StageKind.LABELS, "a")


def test_the_time_left_counts_the_encoders_to_come() -> None:
    estimate = Estimate(layers=3, encoders=1)
    assert estimate.update(Progress(ACTIVATIONS, 64, 128), 0.0) is None
    assert estimate.update(Progress(ENCODER_A, 0, 100), 10.0) is None
    assert estimate.update(Progress(ENCODER_A, 50, 100), 15.0) == pytest.approx(25)
    assert estimate.update(Progress(ENCODER_B, 20, 100), 20.0) is None
    assert estimate.update(Progress(ENCODER_B, 70, 100), 25.0) == pytest.approx(13)
    assert estimate.update(Progress(ATLAS, 0, 1), 30.0) is None


def test_the_time_left_counts_the_encoders_that_judge_labels() -> None:
    estimate = Estimate(layers=2, encoders=3)
    assert estimate.update(Progress(ENCODER_A, 0, 100), 0.0) is None
    assert estimate.update(Progress(ENCODER_A, 50, 100), 5.0) == pytest.approx(55)
    assert estimate.update(Progress(LABELS_A, 20, 200), 12.0) is None
    assert estimate.update(Progress(LABELS_A, 120, 200), 22.0) == pytest.approx(38)
    assert estimate.update(Progress(ENCODER_B, 20, 100), 32.0) is None
    assert estimate.update(Progress(ENCODER_B, 40, 100), 34.0) == pytest.approx(26)
