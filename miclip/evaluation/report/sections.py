"""The section of one target model: verdicts, figures, units, experiments, plane, and whatever else was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from miclip.errors import InvalidInput
from miclip.evaluation.report.anything import tables
from miclip.evaluation.report.evidence import evidence_table
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.experiments import UNITS, example_table, experiments
from miclip.evaluation.report.figures import interventions, label_table
from miclip.evaluation.report.gallery import MAPS, SILENT, SURE, gallery
from miclip.evaluation.report.markup import Html, el, join
from miclip.evaluation.report.measured import note, section, title
from miclip.evaluation.report.plane import plane
from miclip.evaluation.report.result import Place, places, unseen_places
from miclip.evaluation.report.verdicts import LOST, tally, verdict_list

LOGITS = "logits"
_KNOWN = {"labels", "dictionary", "verdict", "evidence", "description_top1", "neurons", "features"}

_VERDICTS = """\
By the change of the concept's accuracy times its specificity. Baselines are all methods but the white boxes, which are
told the model's weights or its predictions. Mean activation, its z-score and Network Dissection are told which classes
a query means; the others have its text alone."""
_LABELS = """\
Of the logits, a label is right when it is the unit's own class; elsewhere, when it is among the five classes that the
unit drives most. miclip's own label is counted where it does not abstain."""
_EVIDENCE = """\
A localisation calls itself doubtful when the probe images show the query no better than what they do not show. Trusted:
share of queries that are not doubtful; behind it, what the default reaches of the white-box oracle, by the change of
accuracy times specificity, over the queries of either sort. A dash: there are none, or the oracle does next to nothing.
"""
_SCALED = f"""\
For every query the {UNITS} units that a method finds are doubled or removed. Bars: change of the concept's accuracy in
points, with its 95 % interval over queries. Hollow points: mean change of all other classes."""
_UNITS = f"""\
{SURE} units at even steps from the surest label to the least sure, then {SILENT} that abstain: chosen by rule, not by
looks. Pictures are the images that drive the unit most, strongest first; under the first {MAPS} stands the unit's
activation over each, from cold to hot, with its range. Causal score: change of the concept's logits per unit of gain;
margin: lead over the next; null: share of random directions that stand out less; contrast: standard deviations above
the mean over all labels; stability: share of further encoders that give the same label. “Drives most” is read from the
model itself; a label found there is marked."""
_TURNED = f"""\
Queries at even steps through their lists. Their {UNITS} units are doubled, then removed; accuracy is that of the
classes the query means, others are the mean change of all other classes in points. Under each unit stand its label, in
brackets where it abstains, and its attribution to the query in logits."""
_PLANE = """\
t-SNE of the unit embeddings. Near is alike; distances between far points mean little. Colours are super-categories of
the units' labels; point at a mark to see its unit."""


def target_section(anchor: str, name: str, target: Mapping[str, Any], exhibit: Exhibit | None) -> Html:
    """Return the section of one target."""
    found = list(places(target))
    charts = [chart for place in found for chart in interventions(place)]
    return el(
        "section",
        el("h2", name),
        _key_figures(target, found),
        _part("Does the default beat the baselines?", _VERDICTS, verdict_list(found)),
        _part("Does it know when not to be trusted?", _EVIDENCE, evidence_table(found, target.get("unseen") or {})),
        _part("Are labels right?", _LABELS, label_table(found)),
        _part("Do the units control the model?", _SCALED, *charts),
        *_pictures(exhibit, found),
        _rest(target, found),
        further({key: value for key, value in target.items() if key not in ("held_out_top1", "layers")}),
        id=anchor,
    )


def further(sections: Mapping[str, Any]) -> Html:
    """Return what else was measured of a target, or of all."""
    return join(section(name, value) for name, value in sections.items())


def _part(heading: str, about: str, *content: Html | None) -> Html | None:
    shown = [one for one in content if one is not None]
    return el("section", el("h3", heading), el("p", about, class_="note"), shown) if shown else None


def _key_figures(target: Mapping[str, Any], found: Sequence[Place]) -> Html:
    cards = [("held-out top-1", f"{target['held_out_top1']:.1f} %")]
    for place in found:
        share = place.found.get("labels", {}).get("default")
        if share is not None:
            cards.append((f"labels right, {place.title}", f"{share:.1f} %"))
    said = tally([*found, *unseen_places(target)])
    if total := sum(said.values()):
        cards.append(("not ahead of every baseline", f"{said[LOST]} of {total}"))
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in cards], class_="cards")


def _pictures(exhibit: Exhibit | None, found: Sequence[Place]) -> list[Html | None]:
    if exhibit is None:
        return [el("p", "No pictures: the model or its images are not at hand.", class_="note")]
    aligned = exhibit.searcher.atlas.layer_names
    shown = [place for place in found if place.layer != LOGITS and place.name in aligned]
    last = [place for place in shown if place.layer == shown[-1].layer]
    units = [el("section", el("h4", place.title), gallery(exhibit, place.name)) for place in reversed(shown)]
    turned = [
        el("section", el("h4", place.title), example_table(exhibit, experiments(exhibit, place.name))) for place in last
    ]
    return [
        _part("What do units look like?", _UNITS, *units),
        _part("Concepts turned up and removed", _TURNED, *turned),
        _part("The units of a layer together", _PLANE, *(_plane(exhibit, place) for place in last)),
    ]


def _plane(exhibit: Exhibit, place: Place) -> Html | None:
    try:
        return el("section", el("h4", place.title), plane(exhibit, place.name))
    except InvalidInput:  # too few units live
        return None


def _rest(target: Mapping[str, Any], found: Sequence[Place]) -> list[Html]:
    """What else was measured of layers and places, by what it is."""
    of_places = [(place.title, place.found, {*_KNOWN, *place.localizations()}) for place in found]
    of_layers = [(layer, values, {*_KNOWN, "localization"}) for layer, values in target["layers"].items()
                 if any(place.found is not values and place.layer == layer for place in found)]  # fmt: skip
    grouped: dict[str, list[Html]] = {}
    for title_of, values, known in [*of_places, *of_layers]:
        for name, value in values.items():
            if name not in known:
                grouped.setdefault(name, []).append(el("div", el("h4", title_of), tables(value)))
    return [
        el("section", el("h3", title(name)), note(name), el("div", parts, class_="side"))
        for name, parts in grouped.items()
    ]
