"""What an evaluation has measured so far, by place, and its summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.agreement import agreement, sanity, summarise_agreement
from miclip.evaluation.carrying import summarise_carried
from miclip.evaluation.figures import ByScale
from miclip.evaluation.intervention import Change
from miclip.evaluation.judge import Judge
from miclip.evaluation.labelling import Labelling, summarise_labels
from miclip.evaluation.measures import Agreement, Curves, Effect, Evidence, Localization, OpenVocabulary
from miclip.evaluation.result import Place, Units
from miclip.evaluation.summary import SIGNS, summarise, verdicts
from miclip.models.target import LOGITS

Seeds = Mapping[str, Mapping[str, Sequence[Sequence[Change]]]]
"""Changes of the same queries by scale, method and seed."""


@dataclass
class _Kind:
    """What was found for one kind of query: by seed, which queries are trusted and what units carry; and changes.

    Attributes:
        trusted: By seed, whether miclip vouches for its answer, ``[Q]``.
        carried: By method and seed, what the units carry, ``[Q]``.
        edited: Rows of the queries that interventions were made for.
        changes: By scale, method and seed, the changes of these queries.
    """

    trusted: list[NDArray[np.bool_]] = field(default_factory=list)
    carried: dict[str, list[NDArray[np.float64]]] = field(default_factory=lambda: defaultdict(list))
    edited: list[int] = field(default_factory=list)
    changes: dict[str, dict[str, list[Sequence[Change]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )


class Tally:
    """Labels of units, what they carry, and changes of accuracy of one target model, seed after seed.

    Args:
        places: The places.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._labellings: dict[Place, dict[str, list[Labelling]]] = {place: defaultdict(list) for place in places}
        self._kinds: dict[Place, dict[str, _Kind]] = {place: defaultdict(_Kind) for place in places}
        self._curves: dict[Place, Curves] = {}

    def add_labels(self, place: Place, labels: Mapping[str, Labelling]) -> None:
        """Add one seed's labels by method."""
        for method, labelling in labels.items():
            self._labellings[place][method].append(labelling)

    def add_carried(
        self, place: Place, kind: str, shares: Mapping[str, NDArray[np.float64]], trusted: NDArray[np.bool_]
    ) -> None:
        """Add what one seed's units carry by method, and which queries it vouches for, in the kind's order."""
        found = self._kinds[place][kind]
        found.trusted.append(trusted)
        for method, values in shares.items():
            found.carried[method].append(values)

    def add_changes(
        self, place: Place, kind: str, method: str, rows: Sequence[int], changes: Mapping[str, Sequence[Change]]
    ) -> None:
        """Add one seed's changes by scale, of the queries of some rows."""
        found = self._kinds[place][kind]
        found.edited = list(rows)
        for scale, values in changes.items():
            found.changes[scale][method].append(values)

    def add_curves(self, place: Place, curves: Curves) -> None:
        """Add the curves of a place."""
        self._curves[place] = curves

    def summary(self, judges: Mapping[str, Judge], descriptions: Mapping[str, OpenVocabulary]) -> tuple[Units, ...]:
        """Return what was found of every place.

        Args:
            judges: By name of the place.
            descriptions: Of the logits' units, by vocabulary.
        """
        return tuple(self._units(place, judges[place.name], descriptions) for place in self._labellings)

    def _units(self, place: Place, judge: Judge, descriptions: Mapping[str, OpenVocabulary]) -> Units:
        kinds, logits = self._kinds[place], place.layer == LOGITS
        carried = {name: summarise_carried(kind.carried, kind.trusted) for name, kind in kinds.items()}
        tested = sanity(judge.activations, judge.labels, np.arange(judge.classes)) if logits else {}
        return Units(
            **dict(place),
            labels=summarise_labels(self._labellings[place]),
            agreement=self._agreement(place, judge),
            sanity=tested,
            carried={name: found for name, found in carried.items() if found},
            localizations={name: _localization(kind) for name, kind in kinds.items() if kind.changes},
            curves=self._curves.get(place),
            descriptions=dict(descriptions) if logits else {},
        )

    def _agreement(self, place: Place, judge: Judge) -> dict[str, Agreement]:
        measured = agreement(judge.activations, judge.labels, judge.classes)
        found = {
            name: summarise_agreement(measured, [(seed.concepts, seed.counted) for seed in seeds])
            for name, seeds in self._labellings[place].items()
        }
        return {name: figures for name, figures in found.items() if figures}


def _localization(kind: _Kind) -> Localization:
    trusted: NDArray[np.bool_] = np.mean(kind.trusted, axis=0)[kind.edited] > 0.5
    return localization(kind.changes, trusted)


def localization(scales: Seeds, trusted: NDArray[np.bool_] | None = None) -> Localization:
    """Summarise interventions on the answers to one kind of query.

    Args:
        scales: Changes of all Q queries.
        trusted: Queries that miclip does not doubt, ``[Q]``; None where it was not asked.
    """
    methods = next(iter(scales.values()))
    effects = {
        name: ByScale[Effect](**{scale: summarise(seeds[name], SIGNS[scale]) for scale, seeds in scales.items()})
        for name in methods
    }
    evidence = None if trusted is None else _evidence(scales, trusted)
    return Localization(methods=effects, verdict=verdicts(scales), evidence=evidence)


def _evidence(scales: Seeds, trusted: NDArray[np.bool_]) -> Evidence:
    sure, unsure = (_part(scales, np.flatnonzero(rows).tolist()) for rows in (trusted, ~trusted))
    return Evidence(
        trusted_share=100.0 * float(trusted.mean()),
        trusted=verdicts(sure) if trusted.any() else None,
        doubtful=verdicts(unsure) if not trusted.all() else None,
    )


def _part(scales: Seeds, rows: Sequence[int]) -> Seeds:
    """The changes of some queries."""
    return {
        scale: {name: [[seed[row] for row in rows] for seed in seeds] for name, seeds in methods.items()}
        for scale, methods in scales.items()
    }
