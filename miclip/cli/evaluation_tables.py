"""The tables of ``miclip evaluate``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from miclip.cli import output
from miclip.evaluation.report.words import NO_MEASURE

SCALES = {"scale_2": "×2", "scale_0": "×0"}
MEASURES = ("correlation", "auprc", "f1", "iou")
UNITS = ("neurons", "features")
KINDS = {
    "localization": "class names",
    "synonyms": "synonyms",
    "keywords": "keywords",
    "categories": "super-categories",
}
"""Kinds of query by their key in a layer's object; the key of the verdicts on class names is ``names``."""
Section = tuple[str, Table, str]
IN_FULL = ("localization", "synonyms")

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


def show(value: dict[str, Any]) -> None:
    """Print the figures as tables."""
    for name, target in value["targets"].items():
        for section in sections(name, target).values():
            output.show(*section)


def sections(name: str, target: dict[str, Any]) -> dict[str, Section]:
    """Return title, table and note of every section that a target's figures have, in order."""
    found: dict[str, Section] = {}
    title = f"{name} · held-out top-1 {target['held_out_top1']:.1f} %"
    found["labels"] = f"{title}\n\nlabels right, %", _labels(target), _LABELS_NOTE
    if target["layers"].get("logits", {}).get("description"):
        title = "labels of the logits over open vocabularies"
        found["description"] = title, _described(target), _DESCRIPTION_NOTE
    found["agreement"] = "labels against activation, means over units", _agreement(target), _AGREEMENT_NOTE
    for kind in IN_FULL:
        if any(kind in figures for *_, figures in _places(target)):
            title = f"{KINDS[kind]}: change of accuracy in points, five units a query"
            found[kind] = title, _interventions(target, kind), _CHANGES_NOTE
    if target.get("unseen"):
        title = f"unseen: {len(target['unseen']['classes'])} classes hidden from the alignment, by their names"
        found["unseen"] = title, _unseen(target["unseen"]), ""
    found["verdict"] = "attribution, miclip's default, among the others", _verdicts(target), _VERDICT_NOTE
    if any("evidence" in figures for *_, figures in _places(target)):
        found["evidence"] = "what miclip itself says of its localisations", _evidence(target), _EVIDENCE_NOTE
    if "cost" in target:
        cost = target["cost"]
        title = f"cost: {cost['layer']}, {cost['units']} units, {cost['images']:,} probe images, this machine"
        found["cost"] = title, _cost(cost), _COST_NOTE
    return found


def _places(target: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Layer, kind of units and their figures."""
    for layer, figures in target["layers"].items():
        yield from ((layer, units, figures[units]) for units in UNITS if units in figures)


def _labels(target: dict[str, Any]) -> Table:
    methods = list(dict.fromkeys(name for *_, figures in _places(target) for name in figures["labels"]))
    shown = output.table("layer", "units", *(f">{_words(name)}" for name in methods))
    for layer, units, figures in _places(target):
        cells = (output.number(figures["labels"].get(name), 1) for name in methods)
        shown.add_row(output.text(layer), units, *cells)
    return shown


def _described(target: dict[str, Any]) -> Table:
    found = target["layers"]["logits"]["description"]
    measures = [name for name in ("clip", "sentence")
                if any(name in figures for one in found.values() for figures in one["methods"].values())]  # fmt: skip
    columns = [f">{name}{null}" for name in measures for null in ("", " null")]
    shown = output.table("vocabulary", ">concepts", "labels by", ">exact", *columns)
    for vocabulary, one in found.items():
        for method, figures in one["methods"].items():
            cells = [cell for name in measures
                     for cell in (_within(figures, name, 2), f"{figures['null'][name]:.2f}")]  # fmt: skip
            exact = output.number(figures["exact"], 1)
            shown.add_row(output.text(vocabulary), f"{one['size']:,}", _words(method), exact, *cells)
    return shown


def _agreement(target: dict[str, Any]) -> Table:
    columns = [f">{name}{null}" for name in MEASURES for null in ("", " null")]
    shown = output.table("layer", "units", "labels by", *columns)
    for layer, units, figures in _places(target):
        for method, found in figures["agreement"].items():
            if found:
                cells = [cell for name in MEASURES for cell in (_within(found, name, 2), f"{found['null'][name]:.2f}")]
                shown.add_row(output.text(layer), units, _words(method), *cells)
    return shown


def _interventions(target: dict[str, Any], kind: str) -> Table:
    columns = [f">{scale} {what}" for scale in SCALES.values() for what in ("target", "others", "specific", "weighted")]
    shown = output.table("layer", "units", "localized by", *columns)
    for layer, units, figures in _places(target):
        for method, scales in figures.get(kind, {}).items():
            cells = [cell for scale in SCALES for cell in _cells(scales[scale])]
            shown.add_row(output.text(layer), units, _words(method), *cells)
    return shown


def _cells(change: dict[str, Any]) -> tuple[str, str, str, str]:
    specificity = f"{change['specificity']:.2f}"
    return _within(change, "target"), f"{change['others']:+.1f}", specificity, f"{change['weighted']:+.1f}"


def _unseen(unseen: dict[str, Any]) -> Table:
    columns = [f">{scale} {what}" for scale in SCALES.values() for what in ("target", "others", "specific", "weighted")]
    shown = output.table("layer", "units", "localized by", *columns)
    for layer, places in unseen["layers"].items():
        for units, methods in places.items():
            for method, scales in methods.items():
                cells = [cell for scale in SCALES for cell in _cells(scales[scale])]
                shown.add_row(output.text(layer), units, _words(method), *cells)
    return shown


def _cost(cost: dict[str, Any]) -> Table:
    shown = output.table("step", ">seconds", ">GFLOP", ">peak MB", ">with its needs, s", "needs")
    for name, step in cost["steps"].items():
        needs = cost["needs"].get(name, [])
        total = step["seconds"] + sum(cost["steps"][need]["seconds"] for need in needs)
        figures = (f"{step['seconds']:.2f}", f"{step['gflop']:,.1f}", f"{step['peak_mb']:,.0f}", f"{total:.2f}")
        shown.add_row(_words(name), *figures, ", ".join(needs))
    return shown


def _verdicts(target: dict[str, Any]) -> Table:
    columns = [f">{scale} {what}" for scale in SCALES.values() for what in ("% of oracle", "lead")]
    shown = output.table("queries", "layer", "units", *columns[:2], "best other", *columns[2:], "best other")
    for kind, heading in KINDS.items():
        for layer, units, figures in _places(target):
            verdict = figures.get("verdict", {}).get("names" if kind == "localization" else kind)
            if verdict:
                cells = [cell for scale in SCALES for cell in _verdict(verdict[scale])]
                shown.add_row(heading, output.text(layer), units, *cells)
    return shown


def _evidence(target: dict[str, Any]) -> Table:
    columns = [f">{scale}, {which}" for scale in SCALES.values() for which in ("trusted", "doubtful")]
    shown = output.table("queries", "layer", "units", ">trusted %", *columns)
    for kind, heading in KINDS.items():
        for layer, units, figures in _places(target):
            found = figures.get("evidence", {}).get("names" if kind == "localization" else kind)
            if found:
                cells = (_of_oracle(found, which, scale) for scale in SCALES for which in ("trusted", "doubtful"))
                shown.add_row(heading, output.text(layer), units, f"{found['trusted_share']:.0f}", *cells)
    for layer, places in (target.get("unseen") or {}).get("trusted_share", {}).items():
        for units, share in places.items():
            shown.add_row("unseen classes", output.text(layer), units, f"{share:.0f}", *["–"] * 4)
    return shown


def _of_oracle(found: dict[str, Any], which: str, scale: str) -> str:
    return _percent_of_oracle(found[which][scale]["share_of_oracle"]) if which in found else "–"


def _percent_of_oracle(share: float) -> str:
    return f"{100 * share:.0f}" if abs(share) < NO_MEASURE else "–"


def _verdict(found: dict[str, Any]) -> tuple[str, str, str]:
    return _percent_of_oracle(found["share_of_oracle"]), _within(found, "lead"), _words(found["best_baseline"])


def _within(figures: dict[str, Any], name: str, digits: int = 1) -> str:
    """A figure with half the width of its interval."""
    low, high = figures[f"{name}_interval"]
    return f"{figures[name]:+.{digits}f} ±{(high - low) / 2:.{digits}f}"


def _words(method: str) -> str:
    return method.replace("_x_", " × ").replace("_", " ")
