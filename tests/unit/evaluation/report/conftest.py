"""A target and its result, with figures that are made up."""

from __future__ import annotations

import pytest

from miclip.evaluation.measures import Agreement
from miclip.evaluation.result import NAMES, Result, Target
from tests.unit.evaluation.report.made import (
    evaluation,
    localization,
    null_figure,
    units,
    verdict,
)


@pytest.fixture
def target() -> Target:
    localizations = {
        NAMES: localization({"attribution": 6, "oracle": 6}, verdict(0.8, share=1.0, best="z_mean_activation")),
        "synonyms": localization({"attribution": 3, "oracle": 6}, verdict(-0.8, share=0.5, best="z_mean_activation")),
    }
    figures = null_figure(0.31, 0.02)
    agreement = {"default": Agreement(correlation=figures, auprc=figures, f1=figures, iou=figures)}
    labels = {"default": 95.0, "filter": 60.0, "clip_dissect": 70.0}
    neurons = units(labels=labels, localizations=localizations)
    features = units(
        kind="features", labels=labels, localizations=localizations, dictionary="topk", agreement=agreement
    )  # fmt: skip
    return Target(
        held_out_top1=83.25, judged_on="9 images of one", aligned_on="8 images of another",
        places=(neurons, features, units("logits")), unseen=None, cost=None,
    )  # fmt: skip


@pytest.fixture
def result(target: Target) -> Result:
    return evaluation(target)
