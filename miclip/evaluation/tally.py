"""What an evaluation has found so far, by place, and its summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.agreement import summarise_agreement
from miclip.evaluation.intervention import Change
from miclip.evaluation.labelling import Labelling
from miclip.evaluation.methods import DEFAULT
from miclip.evaluation.subject import NAMES, Place
from miclip.evaluation.summary import summarise, verdict
from miclip.models.target import LOGITS

SIGNS = {"scale_2": 1, "scale_0": -1}
"""What is wanted of each intervention: a gain or a loss."""

Seeds = dict[str, dict[str, list[Sequence[Change]]]]


class Tally:
    """Shares of right labels and changes of accuracy of one target model, seed after seed."""

    def __init__(self) -> None:
        self._labels: dict[Place, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._labellings: dict[Place, dict[str, list[Labelling]]] = defaultdict(lambda: defaultdict(list))
        self._changes: dict[tuple[Place, str], Seeds] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        self._trusted: dict[tuple[Place, str], list[NDArray[np.bool_]]] = defaultdict(list)

    def add_labels(self, place: Place, shares: Mapping[str, float], found: Mapping[str, Labelling]) -> None:
        """Add one seed's share of right labels by method, in percent, and the labels themselves."""
        for method, share in shares.items():
            self._labels[place][method].append(share)
            self._labellings[place][method].append(found[method])

    def add_changes(self, place: Place, kind: str, method: str, changes: Mapping[str, Sequence[Change]]) -> None:
        """Add one seed's changes by scale, in the order of the kind's queries."""
        for scale, values in changes.items():
            self._changes[place, kind][scale][method].append(values)

    def add_trusted(self, place: Place, kind: str, trusted: NDArray[np.bool_]) -> None:
        """Add which queries of a kind one seed's evidence vouches for, ``[Q]``, in their order."""
        self._trusted[place, kind].append(trusted)

    def summary(self, measured: Callable[[Place], dict[str, NDArray[np.float64]]]) -> dict[str, Any]:
        """Return the layers' objects; see ``evaluate``.

        Args:
            measured: The measures of ``agreement`` at a place.
        """
        layers: dict[str, Any] = {}
        for place, methods in self._labels.items():
            units = layers.setdefault(place.layer, {}).setdefault(place.units, {})
            units["labels"] = {method: float(np.mean(shares)) for method, shares in methods.items()}
            measures = measured(place)
            units["agreement"] = {method: summarise_agreement(measures, seeds)
                                  for method, seeds in self._labellings[place].items()}  # fmt: skip
            if place.units == "features":
                units["dictionary"] = place.name.rpartition("/")[2]
        for (place, kind), scales in self._changes.items():
            units = layers[place.layer][place.units]
            units["localization" if kind == NAMES else kind] = _by_method(scales)
            verdicts = units.setdefault("verdict", {})
            verdicts[kind] = {scale: verdict(methods, SIGNS[scale]) for scale, methods in scales.items()}
            if (place, kind) in self._trusted:
                trusted = np.mean(self._trusted[place, kind], axis=0) > 0.5
                units.setdefault("evidence", {})[kind] = _by_evidence(scales, trusted)
        for name, layer in layers.items():
            layers[name] = {key: layer["neurons"][key] for key in ("labels", "localization")
                            if key in layer["neurons"]} | layer  # fmt: skip
        if LOGITS in layers:
            layers[LOGITS]["description_top1"] = layers[LOGITS]["labels"]["default"]
        return layers


def _by_evidence(scales: Seeds, trusted: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the share of trusted queries in percent, and the verdicts on the trusted and on the doubtful ones."""
    found: dict[str, Any] = {"trusted_share": 100.0 * float(trusted.mean())}
    for name, chosen in (
        ("trusted", np.flatnonzero(trusted).tolist()),
        ("doubtful", np.flatnonzero(~trusted).tolist()),
    ):
        if len(chosen):
            found[name] = {
                scale: verdict({method: [[seed[at] for at in chosen] for seed in seeds]
                                for method, seeds in methods.items()}, SIGNS[scale])
                for scale, methods in scales.items()
            }  # fmt: skip
    return found


def _by_method(scales: Seeds) -> dict[str, dict[str, Any]]:
    methods = list(scales["scale_2"])
    assert DEFAULT in methods
    return {name: {scale: summarise(found[name]) for scale, found in scales.items()} for name in methods}
