"""In words: where the default localisation beats every baseline, and where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miclip.evaluation.report.markup import Html, el
from miclip.evaluation.report.result import Place
from miclip.evaluation.report.words import GOAL, SCALES, kind_words, method_words, signed

WON, OPEN, LOST = "won", "open", "lost"
_MARKS = {WON: "✓", OPEN: "≈", LOST: "✗"}
_NAMES = {WON: "beats every baseline", OPEN: "ahead, but not surely", LOST: "does not beat every baseline"}


def outcome(verdict: Mapping[str, Any]) -> str:
    """Return ``won``, ``open`` (ahead, but the interval of the lead holds 0, or there is none) or ``lost``."""
    low = verdict.get("lead_interval", [0])[0]
    return LOST if verdict["lead"] <= 0 else OPEN if low <= 0 else WON


def sentence(verdict: Mapping[str, Any]) -> str:
    """Say how the default stands against the best baseline and the oracle, by specificity-weighted change."""
    best, lead = method_words(verdict["best_baseline"]), verdict["lead"]
    span = verdict.get("lead_interval")
    within = f" (95 % interval {signed(span[0])} to {signed(span[1])})" if span else " (no interval was measured)"
    said = {
        WON: f"Beats every baseline; the best, {best}, by {abs(lead):.1f} points{within}.",
        OPEN: f"Ahead of every baseline, but not surely of the best, {best}: by {lead:.1f} points{within}.",
        LOST: f"Does not beat {best}: {_behind(lead)}{within}.",
    }[outcome(verdict)]
    return f"{said} {_oracle(verdict)}".strip()


def _behind(lead: float) -> str:
    return f"{abs(lead):.1f} points behind" if lead < -0.05 else "level with it"


def _oracle(verdict: Mapping[str, Any]) -> str:
    if "share_of_oracle" not in verdict:
        return ""
    share = 100 * verdict["share_of_oracle"]
    if share > 100:
        return "Does more than the white-box oracle."
    short = "" if share >= GOAL else f", less than the {GOAL:.0f} % aimed at"
    return f"Reaches {share:.0f} % of the white-box oracle{short}."


def verdict_list(found: list[Place]) -> Html | None:
    """Return every verdict of some places."""
    items = [item for place in found for item in _of_place(place)]
    return el("ul", items, class_="verdicts") if items else None


def _of_place(place: Place) -> list[Html]:
    judged = [
        (kind, scale, verdict)
        for kind in place.localizations()
        for scale in SCALES
        if "lead" in (verdict := place.verdict(kind, scale))
    ]
    return [
        el("li", el("span", _MARKS[outcome(verdict)], class_="mark", role="img", aria_label=_NAMES[outcome(verdict)]),
           el("span", el("b", f"{place.title}, {kind_words(kind)}, {SCALES[scale].split(',')[0]}. "),
              sentence(verdict)), class_=outcome(verdict))
        for kind, scale, verdict in judged
    ]  # fmt: skip


def tally(found: list[Place]) -> dict[str, int]:
    """Return how many verdicts there are of each outcome."""
    said = [
        outcome(verdict)
        for place in found
        for kind in place.localizations()
        for scale in SCALES
        if "lead" in (verdict := place.verdict(kind, scale))
    ]
    return {name: said.count(name) for name in (WON, OPEN, LOST)}
