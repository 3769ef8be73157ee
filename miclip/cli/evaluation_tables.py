"""The tables of ``miclip evaluate``."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from miclip.cli import evaluation_intervened, output
from miclip.cli.evaluation_words import within, within_share, words
from miclip.evaluation.agreement import MEASURES
from miclip.evaluation.figures import Figure
from miclip.evaluation.findings import FRESH, KINDS, PARTS, findings
from miclip.evaluation.measures import Costs
from miclip.evaluation.result import Result, Target, Units

Section = tuple[str, Table, str]

_FINDINGS_NOTE = """\
simple baseline: of role baseline, without a shared space that was aligned; of texts those that know the text alone
"""
_LABELS_NOTE = """\
held-out images, % of units · drives: label among the five classes that the unit drives most (logits: its own class) ·
active: among the five that it is most active for · kept: default by its abstention, others as many, the surest
"""
_CARRIED_NOTE = """\
five units a query, % of the attribution that the best five carry on held-out images · tag: emojibase's, known to CLIP's
image tower · fresh: WordNet's, which nothing was trained on
"""
_ENCODER_NOTE = """\
points of carried attribution by which the default is ahead · best other: of all but the white boxes, also of those that
are told the classes (mean, |mean| and z-scored activation, Network Dissection)
"""
_DESCRIPTION_NOTE = """\
exact: the class's very name, %, of the classes whose name is in the vocabulary · clip, sentence: cosine of label and
name by CLIP's text tower and by a second embedder · null: labels shuffled among units
"""
_AGREEMENT_NOTE = """\
f1, iou: a unit is active on the 1 % of images that it is strongest on · null: labels shuffled among units
"""
_SANITY_NOTE = """\
% of the logits' units for which the measure falls when half of a class's images lose their label, and when as many
others are given it · precision and recall are known to fail
"""
_COST_NOTE = """\
attributions give the activations too · with its needs: seconds of the step and of all it builds on
"""


def show(result: Result) -> None:
    """Print the figures as tables."""
    for name in result.targets:
        for section in sections(result, name).values():
            output.show(*section)


def sections(result: Result, name: str) -> dict[str, Section]:
    """Return title, table and note of every section that a target's figures have, in order."""
    target = result.targets[name]
    found: dict[str, Section] = {}
    seeds = f"{target.seeds} seed{'' if target.seeds == 1 else 's'}"
    title = f"{name} · held-out top-1 {target.held_out_top1:.1f} % · {seeds}\n\nwhere simple baselines win"
    found["findings"] = title, _findings(result, name), _FINDINGS_NOTE
    found["labels"] = "labels right on images that nothing saw", _labels(target), _LABELS_NOTE
    if any(place.carried for place in target.places):
        found["carried"] = "attribution carried by the units found, %", _carried(target), _CARRIED_NOTE
        found["encoder"] = "what the encoder adds", _encoder(target), _ENCODER_NOTE
    found |= evaluation_intervened.sections(target)
    found["agreement"] = "labels against activation, means over units", _agreement(target), _AGREEMENT_NOTE
    if any(place.sanity for place in target.places):
        found["sanity"] = "do the measures notice wrong labels?", _sanity(target), _SANITY_NOTE
    if any(place.descriptions for place in target.places):
        title = "labels of the logits over open vocabularies"
        found["description"] = title, _described(target), _DESCRIPTION_NOTE
    if target.cost:
        cost = target.cost
        title = f"cost: {cost.layer}, {cost.units} units, {cost.images:,} probe images, this machine"
        found["cost"] = title, _cost(cost), _COST_NOTE
    return found


def _findings(result: Result, name: str) -> Table:
    made = output.table("what was found")
    for sentence in findings(result, name):
        made.add_row(output.text(sentence))
    return made


def _labels(target: Target) -> Table:
    made = output.table(
        "layer", "units", "labels by", ">drives", ">active", ">kept %", ">drives, kept", ">active, kept"
    )  # fmt: skip
    for place in target.places:
        for method, found in place.labels.items():
            kept = [_maybe(figure) for figure in (found.kept_drives, found.kept_active)]
            shares = (within_share(found.drives), within_share(found.active), f"{found.coverage:.0f}")
            made.add_row(output.text(place.layer), place.units, words(method), *shares, *kept)
    return made


def _maybe(figure: Figure | None) -> str:
    return "–" if figure is None else within_share(figure)


def _kinds(target: Target) -> list[str]:
    """Kinds of query that anything was measured for, in the order of the tables."""
    return [kind for kind in KINDS if any(kind in place.carried for place in target.places)]


def _carried(target: Target) -> Table:
    kinds = _kinds(target)
    made = output.table("layer", "units", "localized by", *(f">{KINDS[kind]}" for kind in kinds))
    for place in target.places:
        for method in dict.fromkeys(name for found in place.carried.values() for name in found.methods):
            made.add_row(output.text(place.layer), place.units, words(method), *_cells(place, method, kinds))
    return made


def _cells(place: Units, method: str, kinds: list[str]) -> Iterator[str]:
    for kind in kinds:
        found = place.carried.get(kind)
        yield within_share(found.methods[method]) if found and method in found.methods else "–"


def _encoder(target: Target) -> Table:
    columns = [f">over {name}" for name in PARTS.values()]
    made = output.table("queries", "layer", "units", *columns, ">over best other", "best other")
    for kind in sorted(_kinds(target), key=lambda kind: not kind.startswith(FRESH)):
        for place in target.places:
            found = place.carried.get(kind)
            if found is None or found.best_other is None:
                continue
            leads = [within(found.leads[part]) if part in found.leads else "–" for part in PARTS]
            best = found.best_other
            made.add_row(
                KINDS[kind], output.text(place.layer), place.units, *leads, within(found.leads[best]), words(best)
            )  # fmt: skip
    return made


def _agreement(target: Target) -> Table:
    columns = [f">{name}{null}" for name in MEASURES for null in ("", " null")]
    made = output.table("layer", "units", "labels by", *columns)
    for place in target.places:
        for method, found in place.agreement.items():
            figures = [getattr(found, name) for name in MEASURES]
            cells = [cell for figure in figures for cell in (within(figure, 2), f"{figure.null:.2f}")]
            made.add_row(output.text(place.layer), place.units, words(method), *cells)
    return made


def _sanity(target: Target) -> Table:
    made = output.table("measure", ">falls without half, %", ">falls with twice, %")
    for place in target.places:
        for measure, found in place.sanity.items():
            made.add_row(measure, f"{found.missing:.0f}", f"{found.extra:.0f}")
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
            cells = [cell for figure in figures for cell in (within(figure, 2), f"{figure.null:.2f}")]
            exact = output.number(description.exact, 1)
            made.add_row(output.text(vocabulary), f"{one.size:,}", words(method), exact, *cells)
    return made


def _cost(cost: Costs) -> Table:
    made = output.table("step", ">seconds", ">GFLOP", ">peak MB", ">with its needs, s", "needs")
    for name, step in cost.steps.items():
        total, needs = cost.total(name), cost.needs.get(name, ())
        figures = (f"{step.seconds:.2f}", f"{step.gflop:,.1f}", f"{step.peak_mb:,.0f}", f"{total.seconds:.2f}")
        made.add_row(words(name), *figures, ", ".join(needs))
    return made
