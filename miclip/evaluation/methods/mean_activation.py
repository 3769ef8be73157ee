"""Mean activation over the images that the model takes for a class, as it is and standardised by unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods._data import ProbeData, class_means
from miclip.evaluation.methods._method import Method, Price
from miclip.evaluation.methods._ranks import by_class

Float32 = NDArray[np.float32]

_KNOWS = "which classes a query covers, and what the model predicts for every probe image"


def mean_activation(probe: ProbeData) -> Float32:
    """Return class means of activations, float32 ``[K, d]``."""
    return class_means(probe.activations, probe.predicted, probe.classes)


def z_mean_activation(probe: ProbeData) -> Float32:
    """Return class means of activations standardised by unit: a unit that is always strong is strong for no class."""
    spread = np.maximum(probe.activations.std(axis=0), 1e-12)
    standardised = (probe.activations - probe.activations.mean(axis=0)) / spread
    return class_means(standardised, probe.predicted, probe.classes)


METHODS = (
    Method(
        "mean_activation",
        "mean activation",
        _KNOWS,
        order=30,
        rank=by_class(mean_activation),
        price=Price(("activations",), mean_activation, lambda probe: probe.activations.size),
    ),
    Method(
        "z_mean_activation",
        "z-scored activation",
        _KNOWS,
        order=40,
        rank=by_class(z_mean_activation),
        price=Price(("activations",), z_mean_activation, lambda probe: 5 * probe.activations.size),
    ),
)
