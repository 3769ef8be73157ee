"""The labels of a layer's units by method, and how many of them are right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods import LayerData, label_units
from miclip.models.target import LOGITS

TOP_CLASSES = 5

Labelling = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Class of every unit ``[d]``, and which units count ``[d]``."""


def labellings(data: LayerData) -> dict[str, Labelling]:
    """Return the labels by method.

    At the logits every unit counts. Elsewhere units that drive no prediction do not, nor those on which the method
    abstains.
    """
    if data.layer == LOGITS:
        return {name: (labels.concepts, np.ones(len(data.live), bool)) for name, labels in label_units(data).items()}
    return {
        name: (labels.concepts, data.live if labels.given is None else data.live & labels.given)
        for name, labels in label_units(data).items()
    }


def label_accuracy(data: LayerData, labels: Mapping[str, Labelling]) -> dict[str, float]:
    """Return the share of right labels by method, in percent.

    Of the logits, a label is right when it is the unit's own class; elsewhere, when it is one of the five classes that
    the unit drives most (by class-mean attribution).
    """
    right = np.arange(len(data.live))[:, None] if data.layer == LOGITS else data.driven(TOP_CLASSES)
    return {
        name: 100.0 * float((concepts[:, None] == right).any(axis=1)[counted].mean()) if counted.any() else 0.0
        for name, (concepts, counted) in labels.items()
    }
