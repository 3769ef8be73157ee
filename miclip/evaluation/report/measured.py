"""Sections of a result that are more than tables: unseen classes, and what each method costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miclip.evaluation.report.anything import tables
from miclip.evaluation.report.figures import interventions, scrolled
from miclip.evaluation.report.markup import Html, el, join
from miclip.evaluation.report.result import unseen_places
from miclip.evaluation.report.verdicts import verdict_list
from miclip.evaluation.report.words import method_family, method_words, plain_number

TITLES = {
    "agreement": "Agreement of label and activation",
    "description": "Descriptions over open vocabularies",
    "unseen": "Classes that the alignment never saw",
    "cost": "What it costs",
    "settings": "Settings of the evaluation",
}
_NOTES = {
    "agreement": """\
Of each unit's label and the unit's activation on the held-out images, means over units, and the same for labels
shuffled among units.""",
    "description": """\
Similarity of the label to the name of the unit's own class, for words of large vocabularies; exact: labelled with the
very name, in percent.""",
    "unseen": """\
Their names are taken out of the vocabulary, and their images out of the alignment; then they are localized by name.""",
    "cost": """\
Measured on one machine in one run: wall-clock seconds, 10⁹ floating-point operations, and the growth of memory in 10⁶
bytes. A method's cost is that of all steps it needs.""",
}
_FIGURES = ("seconds", "gflop", "peak_mb")


def section(name: str, value: Any) -> Html:
    """Return a section of a target or of the whole result."""
    parts = {"unseen": _unseen, "cost": _cost}.get(name, tables)(value)
    return el("section", el("h3", title(name)), note(name), parts)


def title(name: str) -> str:
    """Return what readers call a section."""
    return TITLES.get(name, name.replace("_", " "))


def note(name: str) -> Html | None:
    """Return what a section is about, where that is known."""
    return el("p", _NOTES[name], class_="note") if name in _NOTES else None


def _unseen(value: Any) -> Html:
    found = unseen_places({"unseen": value})
    if not found:
        return tables(value)
    classes = value.get("classes")
    named = el("p", "Hidden: ", ", ".join(map(str, classes)), class_="note") if isinstance(classes, list) else None
    return join(named, verdict_list(found), [chart for place in found for chart in interventions(place)])


def _cost(value: Any) -> Html:
    if not (isinstance(value, dict) and _is_costs(value.get("steps")) and _are_needs(value.get("needs"))):
        return tables(value)
    facts = {key: one for key, one in value.items() if key not in ("steps", "needs")}
    return join(
        tables(facts), _totals(value["steps"], value["needs"]), el("details", el("summary", "By step"), tables(value))
    )


def _is_costs(steps: Any) -> bool:
    return isinstance(steps, dict) and all(
        isinstance(step, dict) and all(isinstance(step.get(key), (int, float)) for key in _FIGURES)
        for step in steps.values()
    )


def _are_needs(needs: Any) -> bool:
    return isinstance(needs, dict) and all(isinstance(steps, list) for steps in needs.values())


def _totals(steps: Mapping[str, Mapping[str, float]], needs: Mapping[str, list[str]]) -> Html:
    head = el("tr", [el("th", name, scope="col") for name in ("method", "seconds", "GFLOP", "MB", "steps")])
    rows = []
    for method, needed in needs.items():
        taken = [name for name in (*needed, method) if name in steps]
        seconds, gflop = (sum(steps[name][key] for name in taken) for key in _FIGURES[:2])
        peak = max((steps[name]["peak_mb"] for name in taken), default=0.0)
        figures = (plain_number(seconds), plain_number(gflop, 1), plain_number(peak, 0))
        cells = [*(el("td", cell) for cell in figures), el("td", ", ".join(map(method_words, taken)), class_="left")]
        rows.append(el("tr", el("th", method_words(method), scope="row"), cells,
                       class_=method_family(method)))  # fmt: skip
    return scrolled(el("table", el("thead", head), el("tbody", rows), class_="numbers"))
