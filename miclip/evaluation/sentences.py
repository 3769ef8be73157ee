"""A sentence embedder that has nothing in common with CLIP's text tower, to judge labels by a second opinion.

WordLlama: averaged token embeddings, 256 dimensions, trained on pairs of sentences; the package carries the weights.
It is the extra ``evaluation``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts → embeddings of length 1, ``[n, S]``."""


def sentence_embedder() -> Embed | None:
    """Return the embedder, or None where the extra ``evaluation`` is not installed."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        return None
    from wordllama import WordLlama

    # by default it looks beside its own files, in folders that have other names
    model = WordLlama.load(cache_dir=Path(spec.origin).parent, disable_download=True)
    return lambda texts: np.asarray(model.embed(list(texts), norm=True), np.float32)
