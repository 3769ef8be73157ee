"""The tables of ``miclip evaluate``."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from miclip.cli import output
from miclip.evaluation.figures import Figure
from miclip.evaluation.measures import Costs, Effect, Evidence, Localization, Verdict
from miclip.evaluation.result import NAMES, Result, Target, Unseen

SCALES = {"scale_2": "×2", "scale_0": "×0"}
MEASURES = ("correlation", "auprc", "f1", "iou")
KINDS = {NAMES: "class names", "synonyms": "synonyms", "keywords": "keywords", "categories": "super-categories"}
"""What readers call kinds of query, in the order of the tables."""
IN_FULL = (NAMES, "synonyms")
"""Kinds whose interventions are shown for every method."""
Section = tuple[str, Table, str]

_LABELS_NOTE = """\
logits: label = own class · elsewhere: label among the five classes that the unit drives most (default: without
abstentions)
"""
_DESCRIPTION_NOTE = """\
exact: the class's very name, %, of the classes whose name is in the vocabulary · clip, sentence: cosine of label and
name by CLIP's text tower and by a second embedder · null: labels shuffled among units
"""
_AGREEMENT_NOTE = """\
f1, iou: a unit is active on the 1 % of images that it is strongest on · null: labels shuffled among units
"""
_CHANGES_NOTE = """\
shuffled: another query's units · weight × activation and oracle are told what no search knows · weighted: target ×
specificity
"""
_COST_NOTE = """\
attributions give the activations too · with its needs: seconds of the step and of all it builds on
"""
_VERDICT_NOTE = """\
weighted change · –: the oracle itself does next to nothing · best other: of all but the white boxes (weight ×
activation, oracle) · lead: points ahead of it
"""

_EVIDENCE_NOTE = """\
trusted: the evidence does not call the query doubtful · ×2, ×0: weighted change of attribution, % of the oracle's, over
the queries of either sort
"""


def show(result: Result) -> None:
    """Print the figures as tables."""
    for name, target in result.targets.items():
        for section in sections(name, target).values():
            output.show(*section)


def sections(name: str, target: Target) -> dict[str, Section]:
    """Return title, table and note of every section that a target's figures have, in order."""
    found: dict[str, Section] = {}
    title = f"{name} · held-out top-1 {target.held_out_top1:.1f} %"
    found["labels"] = f"{title}\n\nlabels right, %", _labels(target), _LABELS_NOTE
    if any(place.descriptions for place in target.places):
        title = "labels of the logits over open vocabularies"
        found["description"] = title, _described(target), _DESCRIPTION_NOTE
    found["agreement"] = "labels against activation, means over units", _agreement(target), _AGREEMENT_NOTE
    for kind in IN_FULL:
        if rows := list(_localizations(target, kind)):
            title = f"{KINDS[kind]}: change of accuracy in points, five units a query"
            found[_section(kind)] = title, _interventions(rows), _CHANGES_NOTE
    if target.unseen:
        title = f"unseen: {len(target.unseen.classes)} classes hidden from the alignment, by their names"
        found["unseen"] = title, _interventions(list(_hidden(target.unseen))), ""
    found["verdict"] = "attribution, miclip's default, among the others", _verdicts(target), _VERDICT_NOTE
    if any(localization.evidence for _, _, localization in target.localizations()):
        found["evidence"] = "what miclip itself says of its localisations", _evidence(target), _EVIDENCE_NOTE
    if target.cost:
        cost = target.cost
        title = f"cost: {cost.layer}, {cost.units} units, {cost.images:,} probe images, this machine"
        found["cost"] = title, _cost(cost), _COST_NOTE
    return found


def _section(kind: str) -> str:
    return "localization" if kind == NAMES else kind


def _localizations(target: Target, kind: str) -> Iterator[tuple[str, str, Localization]]:
    """Layer, kind of units and what was localized for one kind of query."""
    for place in target.places:
        if kind in place.localizations:
            yield place.layer, place.units, place.localizations[kind]


def _hidden(unseen: Unseen) -> Iterator[tuple[str, str, Localization]]:
    yield from ((place.layer, place.units, place.localization) for place in unseen.places)


def _labels(target: Target) -> Table:
    methods = list(dict.fromkeys(name for place in target.places for name in place.labels))
    made = output.table("layer", "units", *(f">{_words(name)}" for name in methods))
    for place in target.places:
        cells = (output.number(place.labels.get(name), 1) for name in methods)
        made.add_row(output.text(place.layer), place.units, *cells)
    return made


def _described(target: Target) -> Table:
    found = {name: one for place in target.places for name, one in place.descriptions.items()}
    embedders = list(dict.fromkeys(name for one in found.values()
                                   for method in one.methods.values() for name in method.similarity))  # fmt: skip
    columns = [f">{name}{null}" for name in embedders for null in ("", " null")]
    made = output.table("vocabulary", ">concepts", "labels by", ">exact", *columns)
    for vocabulary, one in found.items():
        for method, description in one.methods.items():
            figures = [description.similarity[name] for name in embedders]
            cells = [cell for figure in figures for cell in (_within(figure, 2), f"{figure.null:.2f}")]
            exact = output.number(description.exact, 1)
            made.add_row(output.text(vocabulary), f"{one.size:,}", _words(method), exact, *cells)
    return made


def _agreement(target: Target) -> Table:
    columns = [f">{name}{null}" for name in MEASURES for null in ("", " null")]
    made = output.table("layer", "units", "labels by", *columns)
    for place in target.places:
        for method, found in place.agreement.items():
            figures = (found.correlation, found.auprc, found.f1, found.iou)
            cells = [cell for figure in figures for cell in (_within(figure, 2), f"{figure.null:.2f}")]
            made.add_row(output.text(place.layer), place.units, _words(method), *cells)
    return made


def _interventions(rows: list[tuple[str, str, Localization]]) -> Table:
    columns = [f">{scale} {what}" for scale in SCALES.values() for what in ("target", "others", "specific", "weighted")]
    made = output.table("layer", "units", "localized by", *columns)
    for layer, units, localization in rows:
        for method, effects in localization.methods.items():
            cells = [cell for scale in SCALES for cell in _cells(effects.of(scale))]
            made.add_row(output.text(layer), units, _words(method), *cells)
    return made


def _cells(effect: Effect) -> tuple[str, str, str, str]:
    others, specificity = f"{effect.others.value:+.1f}", f"{effect.specificity.value:.2f}"
    return _within(effect.target), others, specificity, f"{effect.weighted.value:+.1f}"


def _cost(cost: Costs) -> Table:
    made = output.table("step", ">seconds", ">GFLOP", ">peak MB", ">with its needs, s", "needs")
    for name, step in cost.steps.items():
        total, needs = cost.total(name), cost.needs.get(name, ())
        figures = (f"{step.seconds:.2f}", f"{step.gflop:,.1f}", f"{step.peak_mb:,.0f}", f"{total.seconds:.2f}")
        made.add_row(_words(name), *figures, ", ".join(needs))
    return made


def _verdicts(target: Target) -> Table:
    columns = [f">{scale} {what}" for scale in SCALES.values() for what in ("% of oracle", "lead")]
    made = output.table("queries", "layer", "units", *columns[:2], "best other", *columns[2:], "best other")
    for kind, heading in KINDS.items():
        for layer, units, localization in _localizations(target, kind):
            cells = [cell for scale in SCALES for cell in _verdict(localization.verdict.of(scale))]
            made.add_row(heading, output.text(layer), units, *cells)
    return made


def _evidence(target: Target) -> Table:
    columns = [f">{scale}, {which}" for scale in SCALES.values() for which in ("trusted", "doubtful")]
    made = output.table("queries", "layer", "units", ">trusted %", *columns)
    for kind, heading in KINDS.items():
        for layer, units, localization in _localizations(target, kind):
            if evidence := localization.evidence:
                made.add_row(
                    heading, output.text(layer), units, f"{evidence.trusted_share:.0f}", *_reached(evidence)
                )  # fmt: skip
    for place in target.unseen.places if target.unseen else ():
        made.add_row("unseen classes", output.text(place.layer), place.units, f"{place.trusted_share:.0f}", *["–"] * 4)
    return made


def _reached(evidence: Evidence) -> list[str]:
    """What the default reaches of the oracle, by intervention, over the trusted and over the doubtful queries."""
    sorts = (evidence.trusted, evidence.doubtful)
    return [_of_oracle(sort.of(scale)) if sort else "–" for scale in SCALES for sort in sorts]


def _verdict(verdict: Verdict) -> tuple[str, str, str]:
    return _of_oracle(verdict), _within(verdict.lead), _words(verdict.best_baseline)


def _of_oracle(verdict: Verdict) -> str:
    return "–" if verdict.percent_of_oracle is None else f"{verdict.percent_of_oracle:.0f}"


def _within(figure: Figure, digits: int = 1) -> str:
    """A figure with half the width of its interval."""
    return f"{figure.value:+.{digits}f} ±{(figure.high - figure.low) / 2:.{digits}f}"


def _words(method: str) -> str:
    return method.replace("_x_", " × ").replace("_", " ")
