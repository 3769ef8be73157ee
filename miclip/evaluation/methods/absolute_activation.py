"""|Mean activation|: units that are far from zero on a class, whatever their sign."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods._data import ProbeData, class_means
from miclip.evaluation.methods._method import Method, Price
from miclip.evaluation.methods._ranks import by_class


def absolute_activation(probe: ProbeData) -> NDArray[np.float32]:
    """Return the magnitude of the class means of activations, float32 ``[K, d]``."""
    return np.abs(class_means(probe.activations, probe.predicted, probe.classes))


METHODS = (
    Method(
        "absolute_activation",
        "|mean activation|",
        "which classes a query covers, and what the model predicts for every probe image",
        order=45,
        rank=by_class(absolute_activation),
        price=Price(("activations",), absolute_activation, lambda probe: 2 * probe.activations.size),
    ),
)
