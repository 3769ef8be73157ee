"""Unseen concepts: classes that the alignment never heard of, localized by their names.

Their texts are taken out of the vocabulary, and the probe images that the model predicts as one of them out of the
alignment. What is left must be found through the shared space: by what a text has in common with those that were seen.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miclip.alignment import ProbeSet
from miclip.models.target import TargetModel

BATCH = 128


class Subset:
    """Some rows of a probe set; a :class:`miclip.alignment.ProbeSet`.

    Args:
        probe: The whole.
        rows: Rows that stay, increasing.
    """

    views = 1

    def __init__(self, probe: ProbeSet, rows: NDArray[np.int64]) -> None:
        self._probe, self._rows = probe, rows
        self.name, self.licence = f"{probe.name} (in part)", probe.licence
        self.names = tuple(probe.names[row] for row in rows)
        self.sha256 = hashlib.sha256(json.dumps([probe.sha256, rows.tolist()]).encode()).hexdigest()

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return rows ``start`` to ``stop`` of those that stay, each uint8 ``[3, H, W]``."""
        return [image for row in self._rows[start:stop] for image in self._probe.load(row, row + 1)]


def hidden_classes(classes: int, count: int) -> tuple[int, ...]:
    """Return ``count`` classes, evenly spread: always the same."""
    return tuple((2 * index + 1) * classes // (2 * count) for index in range(count))


def without(model: TargetModel, probe: ProbeSet, hidden: Sequence[int]) -> tuple[TargetModel, Subset]:
    """Return the model without the names of some classes, and the probe set without what it takes for them."""
    rows = np.flatnonzero(~np.isin(_predicted(model, probe), hidden))
    blind = copy.copy(model)
    blind.labels = tuple(f"output {at}" if at in hidden else label for at, label in enumerate(model.labels))
    return blind, Subset(probe, rows)


def _predicted(model: TargetModel, probe: ProbeSet) -> NDArray[np.int64]:
    found = []
    for start in range(0, len(probe.names), BATCH):
        images = probe.load(start, min(start + BATCH, len(probe.names)))
        found.append(model.forward(torch.stack([model.preprocess(image) for image in images])).logits.argmax(dim=1))
    predicted: NDArray[np.int64] = torch.cat(found).numpy()
    return predicted
