"""The result of an evaluation: what ``miclip evaluate --json`` prints, and what tables, report and documents read.

Changes of accuracy are in percentage points, shares in percent unless they say otherwise. A figure's interval is the
95 % bootstrap interval of its mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from miclip.errors import InvalidInput
from miclip.evaluation.figures import ByScale, Figure, NullFigure, Record

VERSION: Literal[1] = 1
"""Of the result's form; a change of any field or of its meaning raises it."""
NAMES = "names"
"""Kind of the queries that are class names; every evaluation asks them."""
UNSEEN = "unseen"
"""Kind of the queries that are names of classes that the alignment never saw."""
_LOGITS = "logits"
_NO_MEASURE = 5.0  # times an oracle, from which on a share says only that the oracle does next to nothing
_FORM = "the JSON that `miclip evaluate --json` prints"

Role = Literal["default", "ours", "baseline", "control", "whitebox"]
"""What a method is in a comparison: miclip's default, another way of miclip's, a baseline to beat, a control that must
do nothing, or a white box, which knows what no search does and is not to be beaten."""
UnitKind = Literal["neurons", "features"]
Outcome = Literal["won", "open", "lost"]


class MethodCard(Record):
    """A method, for readers.

    Attributes:
        name: Its key in the result.
        title: What readers call it.
        knows: What it knows of a query and of the model.
        role: What it is in a comparison.
    """

    name: str
    title: str
    knows: str
    role: Role


class Effect(Record):
    """What an intervention does, means over queries.

    Attributes:
        target: Change of the classes that the query covers.
        others: Change of all other classes.
        specificity: 1 is: nothing else moved.
        weighted: Target times specificity, the latter at least 0.
    """

    target: Figure
    others: Figure
    specificity: Figure
    weighted: Figure


class Verdict(Record):
    """How miclip's default stands among the methods, by weighted change.

    Attributes:
        share_of_oracle: 1 is: as much as the oracle; None where there was none.
        best_baseline: Name of the best other method; white boxes are none.
        lead: Points ahead of it.
    """

    share_of_oracle: Figure | None
    best_baseline: str
    lead: Figure

    @property
    def percent_of_oracle(self) -> float | None:
        """Share of the oracle in percent; None where there is no oracle, or one that itself does next to nothing."""
        share = self.share_of_oracle
        return None if share is None or abs(share.value) >= _NO_MEASURE else 100 * share.value

    @property
    def outcome(self) -> Outcome:
        """``won``, ``open`` (ahead, but the interval of the lead holds 0) or ``lost``."""
        if self.lead.value <= 0:
            return "lost"
        return "open" if self.lead.low <= 0 else "won"


class Evidence(Record):
    """What miclip itself says of its localisations.

    Attributes:
        trusted_share: Queries that it does not call doubtful.
        trusted: Verdicts on these queries; None where there are none.
        doubtful: Verdicts on the others; None where there are none.
    """

    trusted_share: float
    trusted: ByScale[Verdict] | None
    doubtful: ByScale[Verdict] | None


class Localization(Record):
    """Interventions on what the methods find for one kind of query.

    Attributes:
        methods: Effects by method, in the order of the result's ``methods``.
        verdict: How the default stands among them.
        evidence: What miclip says of its own answers; None where it was not asked.
    """

    methods: dict[str, ByScale[Effect]]
    verdict: ByScale[Verdict]
    evidence: Evidence | None


class Agreement(Record):
    """How well labels say when units are active, means over units; see ``miclip.evaluation.agreement``."""

    correlation: NullFigure
    auprc: NullFigure
    f1: NullFigure
    iou: NullFigure


class Description(Record):
    """How near labels of the logits' units are to their classes' names.

    Attributes:
        exact: Units labelled with the very name of their class, of those whose name is in the vocabulary; None where
            none is.
        similarity: Mean cosine of label and name by embedder: ``clip``, and ``sentence`` where that is installed.
    """

    exact: float | None
    similarity: dict[str, NullFigure]


class OpenVocabulary(Record):
    """The logits' units described with the concepts of a vocabulary.

    Attributes:
        size: Its concepts.
        methods: By labelling method.
    """

    size: int
    methods: dict[str, Description]


class Place(Record):
    """The units of one layer: its neurons, or the features of a dictionary on it.

    Attributes:
        layer: The layer.
        units: ``neurons`` or ``features``.
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
        labels: Right labels by method, in percent.
        agreement: By method; one none of whose labels counts is left out.
        localizations: By kind of query, class names first; none for the logits.
        descriptions: By open vocabulary; of the logits alone.
    """

    labels: dict[str, float]
    agreement: dict[str, Agreement]
    localizations: dict[str, Localization]
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


class Cost(Record):
    """Cost of one step.

    Attributes:
        seconds: Wall-clock time.
        gflop: Floating-point operations in matrix products and convolutions, in 10⁹.
        peak_mb: Largest growth of the process's resident memory, in 10⁶ bytes.
    """

    seconds: float
    gflop: float
    peak_mb: float


class Costs(Record):
    """What one layer costs.

    Attributes:
        layer: The layer.
        units: Its units.
        images: Probe images.
        steps: By step; a method's own step is named like it.
        needs: Steps that a method builds on.
    """

    layer: str
    units: int
    images: int
    steps: dict[str, Cost]
    needs: dict[str, tuple[str, ...]]

    def steps_of(self, method: str) -> tuple[str, ...]:
        """Return all steps that a method takes, its own last."""
        return tuple(step for step in (*self.needs.get(method, ()), method) if step in self.steps)

    def total(self, method: str) -> Cost:
        """Return what a method costs: sums over its steps, and the largest growth of memory among them."""
        steps = [self.steps[step] for step in self.steps_of(method)]
        return Cost(
            seconds=sum(step.seconds for step in steps),
            gflop=sum(step.gflop for step in steps),
            peak_mb=max((step.peak_mb for step in steps), default=0.0),
        )


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

    version: Literal[1] = VERSION
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
