"""What an evaluation has measured so far, by place, and its summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.agreement import summarise_agreement
from miclip.evaluation.figures import ByScale
from miclip.evaluation.intervention import Change
from miclip.evaluation.labelling import Labelling
from miclip.evaluation.result import Effect, Evidence, Localization, OpenVocabulary, Place, Units
from miclip.evaluation.summary import summarise, verdicts
from miclip.models.target import LOGITS

Seeds = Mapping[str, Mapping[str, Sequence[Sequence[Change]]]]
"""Changes of the same queries by scale, method and seed."""


class Tally:
    """Labels of units and changes of accuracy of one target model, seed after seed."""

    def __init__(self) -> None:
        self._shares: dict[Place, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._labellings: dict[Place, dict[str, list[Labelling]]] = defaultdict(lambda: defaultdict(list))
        self._changes: dict[tuple[Place, str], dict[str, dict[str, list[Sequence[Change]]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        self._trusted: dict[tuple[Place, str], list[NDArray[np.bool_]]] = defaultdict(list)

    def add_labels(self, place: Place, shares: Mapping[str, float], labels: Mapping[str, Labelling]) -> None:
        """Add one seed's share of right labels by method, in percent, and the labels themselves."""
        for method, share in shares.items():
            self._shares[place][method].append(share)
            self._labellings[place][method].append(labels[method])

    def add_changes(self, place: Place, kind: str, method: str, changes: Mapping[str, Sequence[Change]]) -> None:
        """Add one seed's changes by scale, in the order of the kind's queries."""
        for scale, values in changes.items():
            self._changes[place, kind][scale][method].append(values)

    def add_trusted(self, place: Place, kind: str, trusted: NDArray[np.bool_]) -> None:
        """Add which queries of a kind one seed's evidence vouches for, ``[Q]``, in their order."""
        self._trusted[place, kind].append(trusted)

    def summary(
        self,
        measured: Callable[[Place], dict[str, NDArray[np.float64]]],
        descriptions: Mapping[str, OpenVocabulary],
    ) -> tuple[Units, ...]:
        """Return what was found of every place.

        Args:
            measured: The measures of ``agreement`` at a place.
            descriptions: Of the logits' units, by vocabulary.
        """
        return tuple(self._units(place, measured(place), descriptions) for place in self._shares)

    def _units(
        self, place: Place, measures: dict[str, NDArray[np.float64]], descriptions: Mapping[str, OpenVocabulary]
    ) -> Units:
        agreement = {name: summarise_agreement(measures, some) for name, some in self._labellings[place].items()}
        kinds = [kind for at, kind in self._changes if at == place]
        return Units(
            **dict(place),
            labels={method: float(np.mean(shares)) for method, shares in self._shares[place].items()},
            agreement={method: figures for method, figures in agreement.items() if figures},
            localizations={kind: self._localization(place, kind) for kind in kinds},
            descriptions=dict(descriptions) if place.layer == LOGITS else {},
        )

    def _localization(self, place: Place, kind: str) -> Localization:
        trusted = self._trusted.get((place, kind))
        vouched = None if trusted is None else np.mean(trusted, axis=0) > 0.5
        return localization(self._changes[place, kind], vouched)


def localization(scales: Seeds, trusted: NDArray[np.bool_] | None = None) -> Localization:
    """Summarise interventions on the answers to one kind of query.

    Args:
        scales: Changes of all Q queries.
        trusted: Queries that miclip does not doubt, ``[Q]``; None where it was not asked.
    """
    methods = next(iter(scales.values()))
    return Localization(
        methods={name: ByScale[Effect](**{scale: summarise(seeds[name]) for scale, seeds in scales.items()})
                 for name in methods},
        verdict=verdicts(scales),
        evidence=None if trusted is None else _evidence(scales, trusted),
    )  # fmt: skip


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
