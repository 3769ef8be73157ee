"""The labels of a layer's units by method, and how many of them are right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods import LayerMethods
from miclip.models.target import LOGITS

TOP_CLASSES = 5

Labelling = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Class of every unit ``[d]``, and which units count ``[d]``."""


def labellings(methods: LayerMethods, layer: str) -> dict[str, Labelling]:
    """Return the labels by method; ``default`` is miclip's own.

    At the logits every unit counts. Elsewhere units that drive no prediction do not, nor, under ``default``, those on
    which miclip abstains.
    """
    labels = methods.labels()
    counted = np.ones(len(methods.live), bool) if layer == LOGITS else methods.live
    own, kept = methods.default_labels()
    kept = counted if layer == LOGITS else counted & kept
    return {"default": (own, kept), **{name: (found, counted) for name, found in labels.items()}}


def label_accuracy(methods: LayerMethods, layer: str, found: Mapping[str, Labelling]) -> dict[str, float]:
    """Return the share of right labels by method, in percent.

    Of the logits, a label is right when it is the unit's own class; elsewhere, when it is one of the five classes that
    the unit drives most (by class-mean attribution).
    """
    wanted = np.arange(len(methods.live))[:, None] if layer == LOGITS else methods.driven(TOP_CLASSES)
    return {
        name: 100.0 * float((labels[:, None] == wanted).any(axis=1)[counted].mean()) if counted.any() else 0.0
        for name, (labels, counted) in found.items()
    }
