"""In the manner of SemanticLens (Dreyer et al. 2025): the text nearest to the mean of the most activating images.

Once as published, and once on attributions in place of activations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import normalise
from miclip.evaluation.methods._data import ProbeData
from miclip.evaluation.methods._images import TOP_IMAGES, counted, strongest
from miclip.evaluation.methods._method import Method, Price
from miclip.evaluation.methods._ranks import by_text, label_by_text

Float32 = NDArray[np.float32]


def semantic_lens(activations: Float32, images: Float32, texts: Float32, centre: Float32 | None = None) -> Float32:
    """Return the cosine of each text with the mean CLIP embedding of the unit's most activating images, ``[T, d]``.

    Images and texts are mean-centred, as everywhere in miclip: texts by the mean of ``centre``, float32 ``[n, D]``;
    default themselves.
    """
    rows = strongest(activations)
    weights = counted(activations, rows).astype(np.float32)  # of a silent image nothing is known
    sums = np.einsum("rid,ri->id", (images - images.mean(axis=0))[rows], weights)
    centred = texts - (texts if centre is None else centre).mean(axis=0)
    return (normalise(centred) @ normalise(sums).T).astype(np.float32)


def _scores(probe: ProbeData, texts: Float32) -> Float32:
    return semantic_lens(probe.activations, probe.images, texts, probe.names)


def _attribution_scores(probe: ProbeData, texts: Float32) -> Float32:
    return semantic_lens(probe.attributions, probe.images, texts, probe.names)


def _flops(probe: ProbeData) -> float:
    classes, dim = probe.names.shape
    return 2 * TOP_IMAGES * probe.units * dim + 2 * classes * probe.units * dim


METHODS = (
    Method(
        "semanticlens",
        "SemanticLens-style",
        "the text of a query",
        order=60,
        rank=by_text(_scores),
        label=label_by_text(_scores),
        by_text_alone=True,
        price=Price(("activations", "image embeddings", "text embeddings"), lambda p: _scores(p, p.names), _flops),
    ),
    Method(
        "semanticlens_attribution",
        "SemanticLens-style on attributions",
        "the text of a query",
        order=62,
        rank=by_text(_attribution_scores),
        label=label_by_text(_attribution_scores),
        by_text_alone=True,
    ),
)
