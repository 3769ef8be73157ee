"""Receipts: what edits do to their target and to everything else, as plain values, and the statistics behind them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miclip.evidence import Evidence
from miclip.names import base_layer, is_dictionary_layer
from miclip.steering.edits import Edit, fingerprint

RANDOM_DRAWS = 3
"""Sets of random units that a receipt compares with."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class UnitReceipt:
    """What a policy does to one unit.

    Attributes:
        unit: Full name of the unit.
        mean_before: Mean pooled activation over the images before the edits, in units of the activation.
        mean_after: The same after all edits.
        target_change: Change of the target's probability on its images when this unit alone is edited, -1 to 1.
    """

    unit: str
    mean_before: float
    mean_after: float
    target_change: float


@dataclass(frozen=True)
class Receipt:
    """What a policy does, measured on images.

    Attributes:
        target_label: The label that counts as target.
        target_change: Mean change of the target's probability over the images that show it, -1 to 1.
        off_target_change: Mean over the other labels of the change on the images that show them, -1 to 1.
        specificity: 1 - mean absolute change of the other labels / absolute change of the target, at most 1.
        random_target_change: As ``target_change``, for the same edits of as many random units: the control.
        random_off_target_change: As ``off_target_change``, for the random units.
        norm_change: Largest L2 change of a layer's pooled activation relative to the layer's typical norm, 0 or more.
        units: One entry an edited unit, in order of the edits.
        images: Images measured.
        target_images: Images that show the target.
        seconds: Wall time.
    """

    target_label: str
    target_change: float
    off_target_change: float
    specificity: float
    random_target_change: float
    random_off_target_change: float
    norm_change: float
    units: tuple[UnitReceipt, ...]
    images: int
    target_images: int
    seconds: float


@dataclass(frozen=True)
class Preview:
    """Answer of a preview.

    Attributes:
        receipt: What the policy does.
        edits: The edits that were measured.
        evidence: How far the units of its concept are to be trusted; None where it has none, or cosines ranked them.
    """

    receipt: Receipt
    edits: tuple[Edit, ...]
    evidence: Evidence | None


@dataclass(frozen=True)
class Measured:
    """Outputs on the images.

    Attributes:
        probabilities: ``[N, K]``.
        activations: Pooled ``[N, d]`` by captured layer: those edited, and of features the layer they are on.
    """

    probabilities: Array
    activations: Mapping[str, Array]


@dataclass(frozen=True)
class Effect:
    """Mean change of each label's probability over the images that show it, NaN where none does: ``[K]``."""

    by_label: Array

    def target(self, label: int) -> float:
        """Change of the target."""
        return float(self.by_label[label])

    def others(self, label: int) -> Array:
        """Changes of the other labels that images show."""
        rest = np.delete(self.by_label, label)
        return rest[~np.isnan(rest)]

    def mean_of_others(self, label: int) -> float:
        """Mean change of the other labels; 0 where images show none."""
        return _mean(self.others(label))

    def specificity(self, target: int) -> float:
        """1 - mean absolute change of the other labels / absolute change of the target, at most 1."""
        return 1 - _mean(np.abs(self.others(target))) / max(abs(self.target(target)), 1e-6)

    def most_changed(self) -> int:
        """The label that changes most."""
        return int(np.nanargmax(np.abs(self.by_label)))


def effect_of(before: Measured, after: Measured, shown: NDArray[np.int64]) -> Effect:
    """Return what edits change; ``shown`` ``[N]`` is the label that each image shows."""
    rows = np.arange(len(shown))
    change = after.probabilities[rows, shown] - before.probabilities[rows, shown]
    labels = before.probabilities.shape[1]
    counts = np.bincount(shown, minlength=labels)
    sums = np.bincount(shown, weights=change, minlength=labels)
    by_label = np.full(labels, np.nan, dtype=np.float32)
    by_label[counts > 0] = sums[counts > 0] / counts[counts > 0]
    return Effect(by_label)


def shown_labels(known: Sequence[int] | None, before: Measured) -> NDArray[np.int64]:
    """Return the label that each image shows: as known, else as the unsteered model says."""
    return np.asarray(known) if known is not None else before.probabilities.argmax(axis=1)


def measured_layers(edits: Sequence[Edit]) -> list[str]:
    """The edited layers, and those that the dictionaries among them are on: there is what the model sees of an edit."""
    return sorted({name for edit in edits for name in (edit.layer, base_layer(edit.layer))})


def random_edits(edits: Sequence[Edit], layer_sizes: Mapping[str, int], before: Measured) -> list[list[Edit]]:
    """Return the same operations on other units of the same layers, drawn the same way for the same edits.

    Features that are 0 on all images are left out: most scalings of them do nothing, which would flatter the policy.
    """
    draw = random.Random(fingerprint(edits))
    edited = {layer: {edit.unit for edit in edits if edit.layer == layer} for layer in {e.layer for e in edits}}
    draws = []
    for _ in range(RANDOM_DRAWS):
        chosen: dict[tuple[str, int], int] = {}
        for layer, units in sorted(edited.items()):
            every = list(range(layer_sizes[layer]))
            drawable = _active_units(before.activations[layer]) if is_dictionary_layer(layer) else every
            others = [unit for unit in drawable if unit not in units]
            pool = others if len(others) >= len(units) else every
            for unit, other in zip(sorted(units), draw.sample(pool, len(units)), strict=True):
                chosen[layer, unit] = other
        draws.append([replace(edit, unit=chosen[edit.layer, edit.unit]) for edit in edits])
    return draws


def norm_change(before: Measured, after: Measured) -> float:
    """Return the largest L2 change of a layer's pooled activation relative to its mean norm."""
    changes = []
    for layer, values in before.activations.items():
        if is_dictionary_layer(layer):
            continue  # its codes are no part of what the model sees
        typical = float(np.linalg.norm(values, axis=1).mean())
        largest = float(np.linalg.norm(after.activations[layer] - values, axis=1).max())
        changes.append(largest / max(typical, 1e-12))
    return max(changes, default=0.0)


def _active_units(activations: Array) -> list[int]:
    """Units that are not 0 on all images."""
    return [int(unit) for unit in np.flatnonzero(activations.any(axis=0))]


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0
