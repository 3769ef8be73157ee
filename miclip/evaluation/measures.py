"""Records of what is measured: labels, localisations, agreement, descriptions, costs.

Changes of accuracy are in percentage points, shares in percent unless they say otherwise. A figure's interval is the
95 % bootstrap interval of its mean, over queries or units; what several seeds say of one is averaged first.
"""

from __future__ import annotations

from typing import Literal

from miclip.evaluation.figures import ByScale, Figure, NullFigure, Record

_NO_MEASURE = 5.0  # times an oracle, from which on a share says only that the oracle does next to nothing

Role = Literal["default", "ours", "baseline", "control", "whitebox"]
"""What a method is in a comparison: miclip's default, another way of miclip's, a baseline to beat, a control that must
do nothing, or a white box, which knows what no search does and is not to be beaten."""
Outcome = Literal["won", "open", "lost"]


class MethodCard(Record):
    """A method, for readers.

    Attributes:
        name: Its key in the result.
        title: What readers call it.
        knows: What it knows of a query and of the model.
        role: What it is in a comparison.
        by_text_alone: Whether it answers a query from nothing but the text, and is not told the classes it covers.
    """

    name: str
    title: str
    knows: str
    role: Role
    by_text_alone: bool = False


class LabelFigures(Record):
    """How many labels of a method are right on images that nothing saw, by two judges; see ``miclip.evaluation.judge``.

    Attributes:
        drives: All units: the label is among the five classes that the unit drives most.
        active: All units: the label is among the five classes that the unit is most active for.
        coverage: Units whose labels are kept: by miclip's own abstention, and of any other method as many, the surest.
        kept_drives: As ``drives``, of the kept alone; None where none is.
        kept_active: As ``active``, of the kept alone; None where none is.
    """

    drives: Figure
    active: Figure
    coverage: float
    kept_drives: Figure | None
    kept_active: Figure | None


class Effect(Record):
    """What an intervention does, means over queries.

    Attributes:
        target: Change of the classes that the query covers.
        others: Change of all other classes.
        side_effect: Magnitude of the other classes' changes beyond what the few images that measure them explain.
        noise: What was subtracted for that.
        specificity: 1 is: nothing else moved.
        weighted: Target minus side effect, in the direction that is wanted.
    """

    target: Figure
    others: Figure
    side_effect: Figure
    noise: float
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
        return outcome(self.lead)


def outcome(lead: Figure) -> Outcome:
    """Return ``won``, ``open`` (ahead, but the interval holds 0) or ``lost`` for a lead."""
    if lead.value <= 0:
        return "lost"
    return "open" if lead.low <= 0 else "won"


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


class Carried(Record):
    """How much of a query's attribution the five units that a method finds carry, on images that nothing saw.

    Attributes:
        queries: Queries asked.
        methods: By method, in percent of what the best five units carry.
        leads: Points by which the default is ahead, by other method; white boxes are left out.
        trusted_share: Queries that miclip does not call doubtful.
        trusted: What the default carries on these; None where there are none.
        doubtful: What it carries on the others; None where there are none.
    """

    queries: int
    methods: dict[str, Figure]
    leads: dict[str, Figure]
    trusted_share: float
    trusted: Figure | None
    doubtful: Figure | None

    @property
    def best_other(self) -> str | None:
        """The method that the default is least ahead of; None where there is no other."""
        return min(self.leads, key=lambda name: self.leads[name].value, default=None)


class Curves(Record):
    """The same with more or fewer units a query, for class names and a few methods.

    Attributes:
        units: Units a query.
        queries: Queries asked.
        carried: By method, one value for each number of units.
        doubled: Change of the target's accuracy when the units are doubled.
        removed: Change when they are removed.
    """

    units: tuple[int, ...]
    queries: int
    carried: dict[str, tuple[float, ...]]
    doubled: dict[str, tuple[float, ...]]
    removed: dict[str, tuple[float, ...]]


class Agreement(Record):
    """How well labels say when units are active, means over units; see ``miclip.evaluation.agreement``."""

    correlation: NullFigure
    cosine: NullFigure
    auprc: NullFigure
    f1: NullFigure
    iou: NullFigure


class Sanity(Record):
    """Whether a measure of agreement notices wrong labels (Oikarinen et al. 2025).

    Attributes:
        missing: Units, in percent, for which it falls when half of the images of their class lose the label.
        extra: Units, in percent, for which it falls when as many other images are given the label.
    """

    missing: float
    extra: float


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
