"""The tables of ``miclip evaluate`` on interventions: what doubling and removing the units found does."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from miclip.cli import output
from miclip.cli.evaluation_words import SCALES, within, within_share, words
from miclip.evaluation.findings import KINDS
from miclip.evaluation.measures import Effect, Evidence, Localization, Verdict
from miclip.evaluation.result import NAMES, Target, Unseen

_CHANGES_NOTE = """\
shuffled: another query's units · weight × activation and oracle are told what no search knows · side effect: magnitude
of the others' changes beyond what chance explains · weighted: target less side effect, in the wanted direction
"""
_VERDICT_NOTE = """\
weighted change · –: the oracle itself does next to nothing · best other: of all but the white boxes (weight ×
activation, oracle) · lead: points ahead of it
"""
_EVIDENCE_NOTE = """\
trusted: the evidence does not call the query doubtful · carried: attribution that the default's five units carry, %
"""
_UNSEEN_NOTE = """\
oracle: that of the whole alignment, which knows the hidden classes
"""


def sections(target: Target) -> dict[str, tuple[str, Table, str]]:
    """Return title, table and note of every section that a target's interventions have, in order."""
    found: dict[str, tuple[str, Table, str]] = {}
    for kind, heading in KINDS.items():
        if rows := list(_localizations(target, kind)):
            title = f"{heading}: change of accuracy in points, five units a query"
            found["localization" if kind == NAMES else kind] = title, _interventions(rows), _CHANGES_NOTE
    if any(place.curves for place in target.places):
        found["curves"] = "class names: with more and fewer units a query", _curves(target), ""
    if target.unseen:
        title = f"unseen: {len(target.unseen.classes)} classes hidden from the alignment, by their names"
        found["unseen"] = title, _interventions(list(_hidden(target.unseen))), _UNSEEN_NOTE
    if any(place.localizations for place in target.places):
        found["verdict"] = "attribution, miclip's default, among the others", _verdicts(target), _VERDICT_NOTE
    if any(place.carried for place in target.places):
        found["trust"] = "what miclip itself says of its localisations", _trust(target), _EVIDENCE_NOTE
    if any(found.evidence for _, _, found in target.localizations()):
        title = "what miclip itself says of its localisations, by interventions"
        found["evidence"] = title, _evidence(target), "weighted change of attribution, % of the oracle's\n"
    return found


def _localizations(target: Target, kind: str) -> Iterator[tuple[str, str, Localization]]:
    """Layer, kind of units and what was localized for one kind of query."""
    for place in target.places:
        if kind in place.localizations:
            yield place.layer, place.units, place.localizations[kind]


def _hidden(unseen: Unseen) -> Iterator[tuple[str, str, Localization]]:
    yield from ((place.layer, place.units, place.localization) for place in unseen.places)


def _interventions(rows: list[tuple[str, str, Localization]]) -> Table:
    parts = ("target", "others", "side effect", "weighted")
    columns = [f">{scale} {what}" for scale in SCALES.values() for what in parts]
    made = output.table("layer", "units", "localized by", *columns)
    for layer, units, localization in rows:
        for method, effects in localization.methods.items():
            cells = [cell for scale in SCALES for cell in _cells(effects.of(scale))]
            made.add_row(output.text(layer), units, words(method), *cells)
    return made


def _cells(effect: Effect) -> tuple[str, str, str, str]:
    others, side = f"{effect.others.value:+.1f}", f"{effect.side_effect.value:.1f}"
    return within(effect.target), others, side, within(effect.weighted)


def _curves(target: Target) -> Table:
    found = [(place, place.curves) for place in target.places if place.curves]
    sizes = list(dict.fromkeys(size for _, curves in found for size in curves.units))
    made = output.table("layer", "units", "localized by", "measure", *(f">{size}" for size in sizes))
    for place, curves in found:
        measures = {"carried, %": curves.carried, "×2": curves.doubled, "×0": curves.removed}
        for method in curves.carried:
            for measure, values in measures.items():
                by_size = dict(zip(curves.units, values[method], strict=True))
                plain = measure == "carried, %"
                cells = [(f"{by_size[size]:.1f}" if plain else f"{by_size[size]:+.1f}") if size in by_size else "–"
                         for size in sizes]  # fmt: skip
                made.add_row(output.text(place.layer), place.units, words(method), measure, *cells)
    return made


def _verdicts(target: Target) -> Table:
    columns = [f">{scale} {what}" for scale in SCALES.values() for what in ("% of oracle", "lead")]
    made = output.table("queries", "layer", "units", *columns[:2], "best other", *columns[2:], "best other")
    for kind, heading in KINDS.items():
        for layer, units, localization in _localizations(target, kind):
            cells = [cell for scale in SCALES for cell in _verdict(localization.verdict.of(scale))]
            made.add_row(heading, output.text(layer), units, *cells)
    return made


def _trust(target: Target) -> Table:
    made = output.table("queries", "layer", "units", ">asked", ">trusted %", ">carried, trusted", ">carried, doubtful")
    for kind, heading in KINDS.items():
        for place in target.places:
            if found := place.carried.get(kind):
                sorts = ("–" if one is None else within_share(one) for one in (found.trusted, found.doubtful))
                shares = (str(found.queries), f"{found.trusted_share:.0f}")
                made.add_row(heading, output.text(place.layer), place.units, *shares, *sorts)
    for hidden in target.unseen.places if target.unseen else ():
        asked = str(len(target.unseen.classes)) if target.unseen else ""
        share = f"{hidden.trusted_share:.0f}"
        made.add_row("unseen classes", output.text(hidden.layer), hidden.units, asked, share, "–", "–")
    return made


def _evidence(target: Target) -> Table:
    columns = [f">{scale}, {which}" for scale in SCALES.values() for which in ("trusted", "doubtful")]
    made = output.table("queries", "layer", "units", *columns)
    for kind, heading in KINDS.items():
        for layer, units, localization in _localizations(target, kind):
            if evidence := localization.evidence:
                made.add_row(heading, output.text(layer), units, *_reached(evidence))
    return made


def _reached(evidence: Evidence) -> list[str]:
    """What the default reaches of the oracle, by intervention, over the trusted and over the doubtful queries."""
    sorts = (evidence.trusted, evidence.doubtful)
    return [_of_oracle(sort.of(scale)) if sort else "–" for scale in SCALES for sort in sorts]


def _verdict(verdict: Verdict) -> tuple[str, str, str]:
    return _of_oracle(verdict), within(verdict.lead), words(verdict.best_baseline)


def _of_oracle(verdict: Verdict) -> str:
    return "–" if verdict.percent_of_oracle is None else f"{verdict.percent_of_oracle:.0f}"
