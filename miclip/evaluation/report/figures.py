"""The measured figures of a place: labels right, and accuracy under interventions by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from miclip.evaluation.report.charts import Bar, bar_chart
from miclip.evaluation.report.markup import Html, el
from miclip.evaluation.report.result import Change, Methods, Place, weighted
from miclip.evaluation.report.words import SCALES, kind_words, method_family, method_words, plain_number, signed


def label_table(found: Sequence[Place]) -> Html | None:
    """Return the share of right labels by place and method; the best of a row is set in bold."""
    rows = [place for place in found if isinstance(place.found.get("labels"), dict)]
    methods = list(dict.fromkeys(name for place in rows for name in place.found["labels"]))
    if not rows:
        return None
    head = el("tr", el("th", "units", scope="col"),
              [el("th", method_words(name), scope="col", class_=method_family(name)) for name in methods])  # fmt: skip
    body = [el("tr", el("th", place.title, scope="row"), _shares(place.found["labels"], methods)) for place in rows]
    return scrolled(el("table", el("thead", head), el("tbody", body), class_="shares"))


def _shares(shares: Mapping[str, float], methods: Sequence[str]) -> list[Html]:
    best = max(shares.values())
    cells = []
    for name in methods:
        share = shares.get(name)
        if share is None:
            cells.append(el("td", "–"))
            continue
        text = f"{share:.1f} %"
        value = el("b", text) if share == best else text
        cells.append(el("td", value, style=f"--share:{min(max(share, 0), 100):.1f}%", class_=method_family(name)))
    return cells


def interventions(place: Place) -> list[Html]:
    """Return the bars of both scales with the table behind them; those of further kinds of query are folded away."""
    kinds = place.localizations()
    made = [_of_kind(place, kind, methods) for kind, methods in kinds.items()]
    if len(made) < 2:
        return made
    names = ", ".join(kind_words(kind) for kind in list(kinds)[1:])
    return [made[0], el("details", el("summary", f"{place.title}: {names}"), made[1:])]


def _of_kind(place: Place, kind: str, methods: Methods) -> Html:
    title = f"{place.title}, {kind_words(kind)}"
    charts = [
        el("figure", el("figcaption", SCALES[scale]), bar_chart(f"{title}: change of accuracy {SCALES[scale]}",
           _bars(methods, scale), _bounds(methods, scale)))
        for scale in SCALES
    ]  # fmt: skip
    behind = el("details", el("summary", "All figures"), _table(methods))
    return el("section", el("h4", title), el("div", charts, class_="pair"), behind, class_="interventions")


def _bars(methods: Methods, scale: str) -> list[Bar]:
    changes = {name: scales[scale] for name, scales in methods.items()}
    return [
        Bar(method_words(name), one["target"], *interval(one, "target"), one.get("others"), method_family(name))
        for name, one in changes.items()
    ]


def _bounds(methods: Methods, scale: str) -> tuple[float, float]:
    """The span of all bars, intervals and points, with room at both ends."""
    values = [0.0]
    for scales in methods.values():
        change = scales[scale]
        values += [change["target"], change.get("others", 0.0), *interval(change, "target")]
    low, high = min(values), max(values)
    room = 0.04 * max(high - low, 1.0)
    return low - room, high + room


def interval(change: Change, name: str) -> tuple[float, float]:
    """Return the interval of a figure, or the figure itself twice where there is none."""
    low, high = change.get(f"{name}_interval", (change[name], change[name]))
    return float(low), float(high)


def _table(methods: Methods) -> Html:
    columns = ("target", "others", "specificity", "weighted")
    first = el("tr", el("th", "localized by", scope="col", rowspan=2),
               [el("th", words, scope="colgroup", colspan=len(columns)) for words in SCALES.values()])  # fmt: skip
    second = el("tr", [el("th", name, scope="col") for _ in SCALES for name in columns])
    body = [
        el("tr", el("th", method_words(name), scope="row"), [_cells(scales[scale]) for scale in SCALES],
           class_=method_family(name))
        for name, scales in methods.items()
    ]  # fmt: skip
    return scrolled(el("table", el("thead", first, second), el("tbody", body), class_="numbers"))


def _cells(change: Change) -> list[Html]:
    full = {"weighted": weighted(change), **change}
    return [
        _cell(signed(full["target"]), full, "target"),
        _cell(signed(full["others"]) if "others" in full else "–", full, "others"),
        _cell(plain_number(full["specificity"]), full, "specificity"),
        _cell(signed(full["weighted"]), full, "weighted"),
    ]


def _cell(text: str, change: Mapping[str, Any], name: str) -> Html:
    if f"{name}_interval" not in change:
        return el("td", text)
    low, high = interval(change, name)
    digits = 2 if name == "specificity" else 1
    return el("td", text, el("small", f"{signed(low, digits)} to {signed(high, digits)}"))


def scrolled(table: Html) -> Html:
    """Return a table that scrolls by itself where the window is too narrow."""
    return el("div", table, class_="scroll")
