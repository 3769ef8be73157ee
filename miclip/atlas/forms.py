"""Which tensors the files of an atlas hold, with their dtypes and shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

HISTOGRAM_BINS = 32
TOP_IMAGES = 16
NULL_QUANTILES = 101

TensorForms = dict[str, tuple[DTypeLike, tuple[str | int, ...]]]
"""Name → dtype and shape of tensors; sizes that differ between atlases are named."""
Forms = dict[str, tuple[DTypeLike, tuple[int, ...]]]
"""The same with every size resolved."""

SHARED_TENSORS: TensorForms = {
    "image_embeddings": (np.float16, ("views", "dim")),
    "predicted": (np.int32, ("views",)),
    "label_embeddings": (np.float32, ("labels", "dim")),
}
"""Name → dtype and shape of the tensors of ``shared.safetensors``."""

LAYER_TENSORS: TensorForms = {
    "encoder": (np.float16, ("dim", "units")),
    "centre": (np.float32, ("units",)),
    "pattern": (np.float16, ("units", "dim")),
    "causal": (np.float16, ("units", "dim")),
    "activations": (np.float16, ("views", "units")),
    "attributions": (np.float16, ("views", "units")),
    "mean": (np.float32, ("units",)),
    "std": (np.float32, ("units",)),
    "maximum": (np.float32, ("units",)),
    "fraction_nonzero": (np.float32, ("units",)),
    "histogram_counts": (np.int32, ("units", HISTOGRAM_BINS)),
    "histogram_edges": (np.float32, ("units", HISTOGRAM_BINS + 1)),
    "top_images": (np.int32, ("units", TOP_IMAGES)),
    "top_values": (np.float32, ("units", TOP_IMAGES)),
    "null_mean": (np.float32, ()),
    "null_std": (np.float32, ()),
    "null_quantiles": (np.float32, (NULL_QUANTILES,)),
}
"""Name → dtype and shape of the tensors of a layer's file."""

LABEL_TENSORS: TensorForms = {
    "effect_mean": (np.float32, ("units",)),
    "effect_std": (np.float32, ("units",)),
    "null_contrast": (np.float32, (NULL_QUANTILES,)),
    "stability": (np.float32, ("units",)),
}
"""Name → dtype and shape of the tensors by which labels are ranked and judged; a layer's file may lack them."""

OPTIONAL_SHARED_TENSORS: TensorForms = {}
"""Name → dtype and shape of tensors that ``shared.safetensors`` may hold from schema 3 on; add a line for a new one."""

OPTIONAL_LAYER_TENSORS: TensorForms = {
    "coordinates": (np.float16, ("units", 2)),
}
"""The same of a layer's file, of neurons or features, beside ``LABEL_TENSORS``."""

THUMBNAIL_TENSORS: TensorForms = {
    "rows": (np.int32, ("pictures",)),
    "ends": (np.int32, ("pictures",)),
    "data": (np.uint8, ("bytes",)),
}
"""Thumbnails of probe rows, ``rows`` ascending: picture ``i`` is ``data[ends[i-1]:ends[i]]``, a WebP."""

HELD_OUT_TENSORS: TensorForms = {
    "predicted": (np.int32, ("pictures",)),
    "shown": (np.int32, ("pictures",)),
    "ends": (np.int32, ("pictures",)),
    "data": (np.uint8, ("bytes",)),
}
"""Images that the alignment did not use, with the label that the model predicts and the one that they show; -1 where
that is not known."""

_OF_NEURONS = ("encoder", "centre", "activations", "attributions")

FEATURE_TENSORS: TensorForms = {
    **{name: form for name, form in LAYER_TENSORS.items() if name not in _OF_NEURONS},
    "filter": (np.float16, ("units", "dim")),
    "row_ends": (np.int32, ("views",)),
    "features": (np.int32, ("nonzero",)),
    "activation_values": (np.float16, ("nonzero",)),
    "attribution_values": (np.float16, ("nonzero",)),
}
"""The same of a layer of features: its encoder is that of the layer below, and most of its activations are 0.

Row ``j`` has the entries ``row_ends[j-1]`` to ``row_ends[j] - 1`` of ``features`` and the values, features ascending.
"""
