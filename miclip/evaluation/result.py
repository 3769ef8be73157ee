"""The result of an evaluation: what ``miclip evaluate --json`` prints, and what tables, report and documents read.

What is measured is in :mod:`miclip.evaluation.measures`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from miclip.errors import InvalidInput
from miclip.evaluation.figures import Record
from miclip.evaluation.measures import (
    Agreement,
    Carried,
    Costs,
    Curves,
    LabelFigures,
    Localization,
    MethodCard,
    OpenVocabulary,
    Sanity,
)

VERSION: Literal[2] = 2
"""Of the result's form; a change of any field or of its meaning raises it."""
NAMES = "names"
"""Kind of the queries that are class names; every evaluation asks them."""
UNSEEN = "unseen"
"""Kind of the queries that are names of classes that the alignment never saw."""
_LOGITS = "logits"
_FORM = "the JSON that `miclip evaluate --json` prints"

UnitKind = Literal["neurons", "features", "random features"]
"""Random features are those of a dictionary whose directions were drawn and not learned: a control."""


class Place(Record):
    """The units of one layer: its neurons, or the features of a dictionary on it.

    Attributes:
        layer: The layer.
        units: ``neurons``, ``features`` or ``random features``.
        dictionary: Id of the features' dictionary; empty for neurons.
    """

    layer: str
    units: UnitKind
    dictionary: str

    @property
    def name(self) -> str:
        """What the model and its atlas call the units' layer."""
        return f"{self.layer}/dictionaries/{self.dictionary}" if self.dictionary else self.layer

    @property
    def title(self) -> str:
        """Layer and kind of units, for readers."""
        return self.layer if self.layer == _LOGITS else f"{self.layer}, {self.units}"


class Units(Place):
    """What was measured of the units of one layer.

    Attributes:
        labels: Right labels by method.
        agreement: By method; one none of whose labels counts is left out.
        sanity: By measure of agreement; of the logits alone.
        carried: What the units found carry, by kind of query, class names first; none for the logits.
        localizations: What interventions on them do, by kind of query, for some places and kinds.
        curves: With more and fewer units; of the neurons of the last layer before the logits alone.
        descriptions: By open vocabulary; of the logits alone.
    """

    labels: dict[str, LabelFigures]
    agreement: dict[str, Agreement]
    sanity: dict[str, Sanity]
    carried: dict[str, Carried]
    localizations: dict[str, Localization]
    curves: Curves | None
    descriptions: dict[str, OpenVocabulary]


class UnseenUnits(Place):
    """Classes that the alignment never saw, localized by their names in the units of one layer.

    Attributes:
        trusted_share: Queries that miclip does not call doubtful.
        localization: What interventions on the answers do.
    """

    trusted_share: float
    localization: Localization


class Unseen(Record):
    """Classes hidden from an alignment: their names, and what was found for them."""

    classes: tuple[str, ...]
    places: tuple[UnseenUnits, ...]


class Target(Record):
    """What was measured of one model.

    Attributes:
        held_out_top1: Accuracy on the judging images.
        judged_on: The judging images, in words.
        aligned_on: The images that the labels are made from, in words.
        places: Units in the order of the network, the logits last.
        unseen: Classes hidden from the alignment; None where too few classes are there to hide any.
        cost: What the last layer before the logits costs; None where it was not measured.
    """

    held_out_top1: float
    judged_on: str
    aligned_on: str
    places: tuple[Units, ...]
    unseen: Unseen | None
    cost: Costs | None

    def localizations(self) -> Iterator[tuple[str, str, Localization]]:
        """Yield the title of the units, the kind of query and what was localized, classes never seen last."""
        for place in self.places:
            yield from ((place.title, kind, found) for kind, found in place.localizations.items())
        for hidden in self.unseen.places if self.unseen else ():
            yield hidden.title, UNSEEN, hidden.localization


class Result(Record):
    """An evaluation.

    Attributes:
        version: Of this form.
        methods: The methods in the order of tables.
        targets: Models by name.
    """

    version: Literal[2] = VERSION
    methods: tuple[MethodCard, ...]
    targets: Annotated[dict[str, Target], Field(min_length=1)]

    def method(self, name: str) -> MethodCard:
        """Return a method, or a step that is none as a plain baseline that is named like it."""
        plain = MethodCard(name=name, title=name.replace("_", " "), knows="", role="baseline")
        return next((method for method in self.methods if method.name == name), plain)


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    path.write_text(result.model_dump_json(), encoding="utf-8")


def read_result(path: Path) -> Result:
    """Read a saved result; raises InvalidInput when the file is none, or one of another version."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _refused(f"cannot read {path}: {error.strerror}.") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(f"{path.name!r} is not JSON.") from error
    _check_version(value, path.name)
    try:
        return Result.model_validate_json(text)
    except ValidationError as error:
        where, message = ".".join(map(str, error.errors()[0]["loc"])), error.errors()[0]["msg"]
        raise _refused(f"{path.name!r} is not a result of an evaluation. {where}: {message}.") from error


def _check_version(value: Any, name: str) -> None:
    version = value.get("version") if isinstance(value, dict) else None
    if version is None:
        text = "it has no version. A result of an older miclip must be measured again with `miclip evaluate --json`."
        raise _refused(f"{name!r} is not a result of an evaluation: {text}")
    if version != VERSION or isinstance(version, bool):
        text = f"{name!r} has version {str(version)[:20]}; this miclip reads version {VERSION}. Measure it again."
        raise _refused(text)


def _refused(text: str) -> InvalidInput:
    return InvalidInput(f"RESULT: {text}", field="RESULT", allowed=_FORM)
