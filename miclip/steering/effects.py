"""Effects of edits: the statistics behind a receipt, and the random units that it compares with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miclip.names import base_layer, is_dictionary_layer
from miclip.steering.edits import Edit, combined, fingerprint

RANDOM_DRAWS = 3
"""Sets of random units that a receipt compares with."""

Array = NDArray[np.float32]


Target = Mapping[int, float]
"""Labels that count as the target, by their place, with their shares of it; heaviest first."""


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

    def target(self, target: Target) -> float:
        """Change of the target: the mean over its labels that images show, by their shares."""
        return sum(share * float(self.by_label[label]) for label, share in target.items())

    def others(self, target: Target) -> Array:
        """Changes of the other labels that images show."""
        rest = np.delete(self.by_label, list(target))
        return rest[~np.isnan(rest)]

    def mean_of_others(self, target: Target) -> float:
        """Mean change of the other labels; 0 where images show none."""
        return _mean(self.others(target))

    def specificity(self, target: Target) -> float:
        """1 - mean absolute change of the other labels / absolute change of the target, at most 1."""
        return 1 - _mean(np.abs(self.others(target))) / max(abs(self.target(target)), 1e-6)

    def most_changed(self) -> int:
        """The label that changes most."""
        return int(np.nanargmax(np.abs(self.by_label)))


def effect_of(before: Measured, after: Measured, shown: NDArray[np.int64], target: Iterable[int] = ()) -> Effect:
    """Return what edits change.

    Args:
        before: Without the edits.
        after: With them.
        shown: The label that each image shows, ``[N]``.
        target: Labels that count as one: on images that show one of them, their probabilities add up.
    """
    rows, together = np.arange(len(shown)), list(target)
    difference = after.probabilities - before.probabilities
    change = difference[rows, shown]
    if together:
        change = np.where(np.isin(shown, together), difference[:, together].sum(axis=1), change)
    labels = before.probabilities.shape[1]
    counts = np.bincount(shown, minlength=labels)
    sums = np.bincount(shown, weights=change, minlength=labels)
    by_label = np.full(labels, np.nan, dtype=np.float32)
    by_label[counts > 0] = sums[counts > 0] / counts[counts > 0]
    return Effect(by_label)


def shown_target(target: Target, shown: NDArray[np.int64]) -> dict[int, float]:
    """Return the labels of a target that images show, their shares scaled to sum 1; empty where they show none."""
    found = {label: share for label, share in target.items() if label in shown}
    total = sum(found.values())
    return {label: share / total for label, share in found.items()}


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


def stored_norm_change(edits: Sequence[Edit], activations: Mapping[str, Array]) -> float:
    """Return ``norm_change`` of edits of neurons without running the model, each layer by its own edits alone.

    An edit maps a unit's activation at every position to ``gain * a + bias``, and so the mean over the positions.

    Args:
        edits: Edits of neurons.
        activations: Pooled activations ``[N, d]`` of every edited layer, unedited.
    """
    largest = 0.0
    units = combined(edits)
    for layer in sorted({layer for layer, _ in units}):
        values = np.asarray(activations[layer], np.float32)
        chosen = [unit for name, unit in units if name == layer]
        gain, bias = np.array([units[layer, unit] for unit in chosen], np.float32).T
        change = (gain - 1) * values[:, chosen] + bias
        typical = float(np.linalg.norm(values, axis=1).mean())
        largest = max(largest, float(np.linalg.norm(change, axis=1).max()) / max(typical, 1e-12))
    return largest


def _active_units(activations: Array) -> list[int]:
    """Units that are not 0 on all images."""
    return [int(unit) for unit in np.flatnonzero(activations.any(axis=0))]


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0
