"""What units do on images that nothing saw: the judge of labels and of localisations.

Labels come from the probe images, and so do the attributions that miclip's own are made of. Both judges look at other
images: *drives* at the attributions there, *is active for* at the activations there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miclip.evaluation.methods import class_means
from miclip.models.attribution import attribute
from miclip.models.target import LOGITS, TargetModel
from miclip.settings import settings

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

TOP_CLASSES = 5
BATCH = 64


@dataclass(frozen=True)
class Judge:
    """One layer on N labelled images that neither labels nor encoders were made from.

    Attributes:
        layer: The layer.
        activations: Pooled activations, float32 ``[N, d]``.
        attributions: To the predicted class, float32 ``[N, d]``.
        predicted: Class that the model predicts, int64 ``[N]``.
        labels: Class that the image shows, int64 ``[N]``.
        classes: Number of classes K, some of which may have no image.
    """

    layer: str
    activations: Float32
    attributions: Float32
    predicted: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: int

    @cached_property
    def effects(self) -> Float32:
        """Class-mean attributions over the images that the model takes for a class, float32 ``[K, d]``."""
        return class_means(self.attributions, self.predicted, self.classes)

    @cached_property
    def live(self) -> Bools:
        """Units that drive a prediction here, ``[d]``: of any other no label is right. At the logits all count."""
        return np.any(self.effects != 0, axis=0) | (self.layer == LOGITS)

    @cached_property
    def drives(self) -> Bools:
        """Whether a class is among the five that a unit drives most, ``[K, d]``; only what it raises counts.

        A unit of the logits drives its own class.
        """
        if self.layer == LOGITS:
            return np.eye(self.classes, dtype=bool)
        return _top(self.effects, 0.0)

    @cached_property
    def excites(self) -> Bools:
        """Whether a class is among the five whose images a unit is most active for, above its mean, ``[K, d]``."""
        means = class_means(self.activations, self.labels, self.classes)
        shown = np.bincount(self.labels, minlength=self.classes) > 0
        return _top(np.where(shown[:, None], means, -np.inf), self.activations.mean(axis=0))


def judges(
    model: TargetModel, images: Tensor, labels: Tensor, layers: Sequence[str]
) -> tuple[NDArray[np.int64], dict[str, Judge]]:
    """Run the model over the judging images.

    Args:
        model: The target model.
        images: Preprocessed, float32 ``[N, 3, S, S]``.
        labels: Class of each image, int64 ``[N]``.
        layers: Layers to judge.

    Returns:
        Predicted classes, int64 ``[N]``, and the judge of each layer.
    """
    points = settings().attribution_points
    logits, activations, attributions = zip(
        *(attribute(model, part, layers, points) for part in images.split(BATCH)), strict=True
    )
    predicted = torch.cat(logits).argmax(dim=1).cpu().numpy().astype(np.int64)
    shown, classes = labels.cpu().numpy().astype(np.int64), len(model.labels)

    def whole(parts: Sequence[dict[str, Tensor]], layer: str) -> Float32:
        values: Float32 = torch.cat([part[layer] for part in parts]).float().cpu().numpy()
        return values

    found = {
        layer: Judge(layer, whole(activations, layer), whole(attributions, layer), predicted, shown, classes)
        for layer in layers
    }
    return predicted, found


def _top(scores: Float32, least: float | Float32) -> Bools:
    """Whether a class is among the ``TOP_CLASSES`` of a unit and above ``least``, ``[K, d]``."""
    best = np.argsort(-scores, axis=0, kind="stable")[:TOP_CLASSES]
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, best, True, axis=0)
    return chosen & (scores > least)
