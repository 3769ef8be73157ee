"""A target and its result, with figures that are made up."""

from __future__ import annotations

import pytest

from miclip.evaluation.measures import Agreement
from miclip.evaluation.result import NAMES, Result, Target
from tests.unit.evaluation.report.made import (
    carried,
    evaluation,
    label_figures,
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
    agreement = {"default": Agreement(correlation=figures, cosine=figures, auprc=figures, f1=figures, iou=figures)}
    labels = {
        "default": label_figures(75.0, 30.0),
        "filter": label_figures(60.0, 20.0),
        "clip_dissect": label_figures(70.0, 45.5),
    }
    found = {
        NAMES: carried({"clip_dissect": 70.0, "attribution": 87.1}, {"clip_dissect": 17.1, "z_mean_activation": -0.5}),
        "fresh_synonyms": carried({"clip_dissect": 64.0, "attribution": 63.5}, {"clip_dissect": -0.5}),
    }
    neurons = units(labels=labels, localizations=localizations, carried=found)
    features = units(
        kind="features", labels=labels, localizations=localizations, dictionary="topk", agreement=agreement
    )  # fmt: skip
    return Target(
        seeds=1, held_out_top1=83.25, judged_on="9 images of one", aligned_on="8 images of another",
        places=(neurons, features, units("logits")), unseen=None, cost=None,
    )  # fmt: skip


@pytest.fixture
def result(target: Target) -> Result:
    return evaluation(target)
