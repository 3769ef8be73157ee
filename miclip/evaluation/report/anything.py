"""Sections of a result that have no picture of their own, as tables found by their shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miclip.evaluation.report.figures import scrolled
from miclip.evaluation.report.markup import Html, el, join
from miclip.evaluation.report.words import method_words, plain_number

_DEEPEST = 6
_NULL = "null"


def tables(value: Any, depth: int = 0) -> Html:
    """Return nested dictionaries as tables and headings.

    A dictionary of numbers and texts is a list of pairs, one of such dictionaries a table; deeper ones get headings.
    ``x_interval`` stands in the cell of ``x``, and so does ``x`` of a dictionary ``null`` beside it.
    """
    if not isinstance(value, dict):
        return el("p", _cell(value))
    nested = {key: one for key, one in value.items() if isinstance(one, dict) and key != _NULL}
    flat = {key: one for key, one in value.items() if key not in nested}
    parts = [_pairs(flat)] if flat else []
    if nested and all(_is_flat(one) for one in nested.values()):
        parts.append(_matrix(nested))
    elif depth < _DEEPEST:
        parts += [_nested(key, one, depth + 1) for key, one in nested.items()]
    return join(parts)


def _nested(key: str, value: Mapping[str, Any], depth: int) -> Html:
    return el("div", el("h5", _words(key)), tables(value, depth), class_="nested")


def _is_flat(value: Mapping[str, Any]) -> bool:
    return not any(isinstance(one, dict) for key, one in value.items() if key != _NULL)


def _pairs(values: Mapping[str, Any]) -> Html:
    rows = [el("tr", el("th", _words(key), scope="row"), el("td", _of(values, key))) for key in _shown(values)]
    return scrolled(el("table", el("tbody", rows), class_="pairs"))


def _matrix(rows: Mapping[str, Mapping[str, Any]]) -> Html:
    columns = list(dict.fromkeys(key for row in rows.values() for key in _shown(row)))
    head = el("tr", el("td"), [el("th", _words(key), scope="col") for key in columns])
    body = [
        el("tr", el("th", _words(name), scope="row"), [el("td", _of(row, key)) for key in columns])
        for name, row in rows.items()
    ]
    return scrolled(el("table", el("thead", head), el("tbody", body), class_="numbers"))


def _shown(values: Mapping[str, Any]) -> list[str]:
    """Every key but the intervals and nulls that stand in the cell of their figure."""
    beside = {f"{key}_interval" for key in values} | {_NULL}
    return [key for key in values if key not in beside]


def _of(values: Mapping[str, Any], key: str) -> Html | str:
    if key not in values:
        return "–"
    span, null = values.get(f"{key}_interval"), values.get(_NULL)
    beside = []
    if isinstance(span, list) and len(span) == 2:
        beside.append(el("small", f"{_cell(span[0])} to {_cell(span[1])}"))
    if isinstance(null, dict) and key in null:
        beside.append(el("small", f"null {_cell(null[key])}"))
    return join(_cell(values[key]), beside)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    return str(value)


def _number(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.1g}".replace("-", "−")
    return plain_number(value, 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 3)


def _words(key: str) -> str:
    return method_words(key)
