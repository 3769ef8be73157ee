"""In words: where the default localisation beats every baseline, and where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from miclip.evaluation.measures import Localization, Outcome, Verdict
from miclip.evaluation.report.words import GOAL, SCALES, kind_words, percent, signed
from miclip.evaluation.result import Result, Target

MARKS: dict[Outcome, tuple[str, str]] = {
    "won": ("✓", "beats every baseline"),
    "open": ("≈", "ahead, but not surely"),
    "lost": ("✗", "does not beat every baseline"),
}
"""Sign of an outcome, and what it says to those who do not see it."""


@dataclass(frozen=True)
class Said:
    """A verdict in words: its outcome, the sign and name of that, what is judged, and the sentence."""

    outcome: Outcome
    mark: str
    name: str
    about: str
    sentence: str


def verdicts(result: Result, localizations: Iterable[tuple[str, str, Localization]]) -> Iterator[Said]:
    """Yield every verdict on some localizations, each given with the title of its units and its kind of query."""
    for title, kind, found in localizations:
        for scale, words in SCALES.items():
            verdict = found.verdict.of(scale)
            about = f"{title}, {kind_words(kind)}, {words.split(',')[0]}."
            yield Said(verdict.outcome, *MARKS[verdict.outcome], about, sentence(result, verdict))


def sentence(result: Result, verdict: Verdict) -> str:
    """Say how the default stands against the best baseline and the oracle, by specificity-weighted change."""
    best, lead = result.method(verdict.best_baseline).title, verdict.lead
    within = f" (95 % interval {signed(lead.low)} to {signed(lead.high)})"
    standing = {
        "won": f"Beats every baseline; the best, {best}, by {abs(lead.value):.1f} points{within}.",
        "open": f"Ahead of every baseline, but not surely of the best, {best}: by {lead.value:.1f} points{within}.",
        "lost": f"Does not beat {best}: {_behind(lead.value)}{within}.",
    }[verdict.outcome]
    return f"{standing} {_oracle(verdict)}".strip()


def tally(targets: Iterable[Target]) -> Counter[Outcome]:
    """Return how many verdicts there are of each outcome."""
    return Counter(
        found.verdict.of(scale).outcome
        for target in targets
        for _, _, found in target.localizations()
        for scale in SCALES
    )


def _behind(lead: float) -> str:
    return f"{abs(lead):.1f} points behind" if lead < -0.05 else "level with it"


def _oracle(verdict: Verdict) -> str:
    if verdict.share_of_oracle is None:
        return ""
    share = 100 * verdict.share_of_oracle.value
    if share > 100:
        return "Does more than the white-box oracle."
    short = "" if share >= GOAL else f", less than the {GOAL:.0f} % aimed at"
    return f"Reaches {percent(share)} of the white-box oracle{short}."
