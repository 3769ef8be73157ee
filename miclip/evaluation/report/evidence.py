"""Whether miclip's localisation knows when it is not to be trusted, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miclip.evaluation.report.figures import scrolled
from miclip.evaluation.report.markup import Html, el
from miclip.evaluation.report.result import Place
from miclip.evaluation.report.words import NO_MEASURE, SCALES, kind_words

_SORTS = ("trusted", "doubtful")


def evidence_table(found: Sequence[Place], unseen: Mapping[str, Any]) -> Html | None:
    """Return how many queries are trusted, and what the trusted and the doubtful reach of the oracle.

    Args:
        found: Places with what was found of them.
        unseen: What was measured of classes that the alignment never saw; may be empty.
    """
    rows = [row for place in found for row in _rows(place)]
    if not rows:
        return None
    rows += [
        el("tr", el("th", f"{layer}, {units}", scope="row"), el("td", "names of unseen classes"),
           el("td", f"{share:.0f} %"), [el("td", "–") for _ in (*SCALES, *SCALES)])
        for layer, shares in unseen.get("trusted_share", {}).items() for units, share in shares.items()
    ]  # fmt: skip
    columns = [f"{scale.split(',')[0]}, {sort}" for scale in SCALES.values() for sort in _SORTS]
    head = el("tr", [el("th", name, scope="col") for name in ("units", "queries", "trusted", *columns)])
    return scrolled(el("table", el("thead", head), el("tbody", rows), class_="shares"))


def _rows(place: Place) -> Iterator[Html]:
    for kind, said in place.found.get("evidence", {}).items():
        cells = [_share(said.get(sort), scale) for scale in SCALES for sort in _SORTS]
        trusted = el("td", f"{said['trusted_share']:.0f} %")
        yield el("tr", el("th", place.title, scope="row"), el("td", kind_words(kind)), trusted, cells)


def _share(verdicts: Mapping[str, Any] | None, scale: str) -> Html:
    share = verdicts[scale]["share_of_oracle"] if verdicts else NO_MEASURE
    return el("td", f"{100 * share:.0f} %".replace("-", "−") if abs(share) < NO_MEASURE else "–")
