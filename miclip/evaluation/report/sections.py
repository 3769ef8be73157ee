"""What the section of one target model shows: verdicts, figures, units, experiments and planes, ready for templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from miclip.errors import InvalidInput
from miclip.evaluation.findings import findings
from miclip.evaluation.measures import Localization
from miclip.evaluation.report.charts import Bar, BarChart, bar_chart
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.experiments import Row, experiments, rows
from miclip.evaluation.report.gallery import Shown, collect
from miclip.evaluation.report.plane import Plane, plane
from miclip.evaluation.report.verdicts import Said, tally, verdicts
from miclip.evaluation.report.words import SCALES, kind_words
from miclip.evaluation.result import Result, Target, Units


@dataclass(frozen=True)
class Interventions:
    """Interventions on the units of one place for one kind of query: the title, the figures, and the bars by scale."""

    title: str
    kind: str
    found: Localization
    charts: Sequence[tuple[str, BarChart]]


@dataclass(frozen=True)
class Pictures:
    """What a person can judge labels by, each with the title of its units: galleries, examples and planes."""

    galleries: Sequence[tuple[str, Sequence[Shown]]]
    examples: Sequence[tuple[str, Sequence[Row]]]
    planes: Sequence[tuple[str, Plane]]


@dataclass(frozen=True)
class Section:
    """The section of one target model.

    Attributes:
        name: The model.
        target: Its figures.
        cards: Key figures, each a name and a value.
        findings: What was found in sentences; where a simple baseline wins comes first.
        verdicts: On all that the alignment saw.
        unseen_verdicts: On the classes that it did not see.
        interventions: By place, those of class names first.
        unseen: Those of the classes that the alignment did not see.
        pictures: None where the model or its images are not at hand.
    """

    name: str
    target: Target
    cards: Sequence[tuple[str, str]]
    findings: Sequence[str]
    verdicts: Sequence[Said]
    unseen_verdicts: Sequence[Said]
    interventions: Sequence[tuple[Units, Sequence[Interventions]]]
    unseen: Sequence[Interventions]
    pictures: Pictures | None


def section(result: Result, name: str, exhibit: Exhibit | None) -> Section:
    """Return what the section of a target shows."""
    target = result.targets[name]
    seen = [(p.title, kind, found) for p in target.places for kind, found in p.localizations.items()]
    hidden = list(target.localizations())[len(seen) :]
    return Section(
        name=name,
        target=target,
        cards=_cards(target),
        findings=findings(result, name),
        verdicts=list(verdicts(result, seen)),
        unseen_verdicts=list(verdicts(result, hidden)),
        interventions=[
            (place, _interventions(result, ((place.title, *found) for found in place.localizations.items())))
            for place in target.places
            if place.localizations
        ],
        unseen=_interventions(result, hidden),
        pictures=None if exhibit is None else _pictures(exhibit, target),
    )


def _interventions(result: Result, localizations: Iterable[tuple[str, str, Localization]]) -> list[Interventions]:
    return [
        Interventions(
            title=f"{title}, {kind_words(kind)}",
            kind=kind,
            found=found,
            charts=[(words, _chart(result, found, scale)) for scale, words in SCALES.items()],
        )
        for title, kind, found in localizations
    ]


def _chart(result: Result, found: Localization, scale: str) -> BarChart:
    bars = []
    for name, effects in found.methods.items():
        effect, method = effects.of(scale), result.method(name)
        target = effect.target
        bars.append(Bar(method.title, target.value, target.low, target.high, effect.others.value, method.role))
    return bar_chart(bars, _bounds(bars))


def _bounds(bars: Sequence[Bar]) -> tuple[float, float]:
    """The span of all bars, intervals and points, with room at both ends."""
    values = [0.0, *(value for bar in bars for value in (bar.value, bar.low, bar.high, bar.beside))]
    low, high = min(values), max(values)
    room = 0.04 * max(high - low, 1.0)
    return low - room, high + room


def _cards(target: Target) -> list[tuple[str, str]]:
    cards = [("held-out top-1", f"{target.held_out_top1:.1f} %")]
    cards += [
        (f"labels right, {place.title}", f"{place.labels['default'].drives.value:.1f} %")
        for place in target.places
        if "default" in place.labels and place.units != "random features"
    ]
    outcomes = tally([target])
    if outcomes:
        cards.append(("not ahead of every baseline", f"{outcomes['lost']} of {outcomes.total()}"))
    return cards


def _pictures(exhibit: Exhibit, target: Target) -> Pictures:
    aligned = exhibit.searcher.atlas.layer_names
    places = [place for place in target.places if place.localizations and place.name in aligned]
    last = [place for place in places if place.layer == places[-1].layer]
    return Pictures(
        galleries=[(place.title, collect(exhibit, place.name)) for place in reversed(places)],
        examples=[(place.title, rows(exhibit, experiments(exhibit, place.name))) for place in last],
        planes=[(place.title, drawn) for place in last if (drawn := _plane(exhibit, place)) is not None],
    )


def _plane(exhibit: Exhibit, place: Units) -> Plane | None:
    try:
        return plane(exhibit, place.name)
    except InvalidInput:  # too few units live
        return None
