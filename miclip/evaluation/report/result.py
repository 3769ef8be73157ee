"""Reading what ``miclip evaluate --json`` printed: what is there is found by its shape, what is missing is skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miclip.errors import InvalidInput
from miclip.evaluation.report.words import DEFAULT, SIGNS, WHITE_BOX

Change = Mapping[str, Any]
Methods = Mapping[str, Mapping[str, Change]]
_UNITS = ("neurons", "features")
_FORM = "the JSON that `miclip evaluate --json` prints"


@dataclass(frozen=True)
class Place:
    """Units of a layer: ``neurons``, or ``features`` of a dictionary; with what was found of them."""

    layer: str
    units: str
    found: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the model and its atlas call the units' layer."""
        dictionary = self.found.get("dictionary", "")
        return f"{self.layer}/dictionaries/{dictionary}" if self.units == "features" and dictionary else self.layer

    @property
    def title(self) -> str:
        """Layer and kind of units, for readers."""
        return self.layer if self.layer == "logits" else f"{self.layer}, {self.units}"

    def localizations(self) -> dict[str, Methods]:
        """Return the interventions by kind of query, class names first."""
        kinds = {kind: value for kind, value in self.found.items() if _is_methods(value)}
        return dict(sorted(kinds.items(), key=lambda item: item[0] != "localization"))

    def verdict(self, kind: str, scale: str) -> Mapping[str, Any]:
        """Return how the default stands; computed from the means where the evaluation does not say."""
        said = self.found.get("verdict", {}).get("names" if kind == "localization" else kind, {}).get(scale)
        return said or _verdict(self.localizations()[kind], scale)


def read_result(path: Path) -> dict[str, Any]:
    """Read a saved result; raises InvalidInput when the file is none."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"RESULT: cannot read {path}: {error.strerror}.", field="RESULT", allowed=_FORM) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"RESULT: {path.name!r} is not JSON.", field="RESULT", allowed=_FORM) from error
    return checked(value, path.name)


def checked(value: Any, name: str) -> dict[str, Any]:
    """Return a result whose parts that every result has are there; raises InvalidInput."""
    targets = value.get("targets") if isinstance(value, dict) else None
    whole = isinstance(targets, dict) and targets and all(
        isinstance(one, dict)
        and isinstance(one.get("held_out_top1"), (int, float))
        and isinstance(one.get("layers"), dict)
        and all(isinstance(layer, dict) for layer in one["layers"].values())
        for one in targets.values()
    )  # fmt: skip
    if not whole:
        raise InvalidInput(f"RESULT: {name!r} is not a result of an evaluation.", field="RESULT", allowed=_FORM)
    found: dict[str, Any] = value
    return found


def places(target: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the places of a target, in the order of the result."""
    for layer, found in target["layers"].items():
        inner = [units for units in _UNITS if isinstance(found.get(units), dict)]
        for units in inner:
            yield Place(layer, units, found[units])
        if not inner:
            yield Place(layer, "neurons", found)


def unseen_places(target: Mapping[str, Any]) -> list[Place]:
    """Return the places of a target where classes that the alignment never saw were localized."""
    unseen = target.get("unseen")
    layers = unseen.get("layers") if isinstance(unseen, dict) else None
    if not isinstance(layers, dict):
        return []
    return [
        Place(layer, units, {"unseen": methods})
        for layer, kinds in layers.items()
        if isinstance(kinds, dict)
        for units, methods in kinds.items()
    ]


def weighted(change: Change) -> float:
    """Return the change of the target times its specificity, the latter at least 0, in points."""
    return float(change.get("weighted", change["target"] * max(change["specificity"], 0.0)))


def is_change(value: Any) -> bool:
    """Whether a value is the summary of an intervention."""
    return isinstance(value, dict) and all(isinstance(value.get(k), (int, float)) for k in ("target", "specificity"))


def _is_methods(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and DEFAULT in value
        and all(isinstance(one, dict) and all(is_change(one.get(scale)) for scale in SIGNS) for one in value.values())
    )


def _verdict(methods: Methods, scale: str) -> dict[str, Any]:
    gains = {name: SIGNS[scale] * weighted(scales[scale]) for name, scales in methods.items()}
    others = [name for name in gains if name not in (DEFAULT, *WHITE_BOX)]
    found: dict[str, Any] = {}
    if others:
        best = max(others, key=lambda name: gains[name])
        found |= {"best_baseline": best, "lead": gains[DEFAULT] - gains[best]}
    if "oracle" in gains:
        found["share_of_oracle"] = gains[DEFAULT] / max(gains["oracle"], 0.01)
    return found
