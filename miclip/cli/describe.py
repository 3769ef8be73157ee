"""``miclip describe``: what units mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from miclip.cli import output
from miclip.cli.backend import Backend, default_layer, layer_sizes
from miclip.cli.connect import backend
from miclip.cli.options import DEFAULT_MODEL, Layer, Local, Model, TopK
from miclip.cli.progress import progress_bar
from miclip.cli.specs import layer_argument, parse_ranges, parse_units, short_layer, short_unit
from miclip.errors import InvalidInput, NotFound
from miclip.names import UnitName
from miclip.progress import Progress, Report, Stage, StageKind
from miclip.promise import Verdict, advice

if TYPE_CHECKING:
    from miclip.retrieval.results import Description, ScoredConcept

_BATCH = 1000
_STRONGEST = 10
_COLUMNS = ("unit", "drives", ">effect", ">sure %", "active for", ">by sd", "lowers", ">score", ">stable %", "then")
_NARROW, _WIDE = 72, 116  # characters, below which more columns would leave labels no room
_NARROW_NOTE = """\
effect: logits given to the concept · sure: how often that held on images left out · a wider terminal shows more
"""
_NOTE = """\
drives: the concept whose logits the unit raises, by effect · sure: how often that held on images left out · active for:
what excites the unit, by standard deviations · lowers: what it suppresses · score: cosine of unit and concept · stable:
share of other encoders that agree · then: what it drives besides
"""
_WHY = {
    "effect": "drives nothing",
    "chance": "no more than chance",
    "promise": "abstains",
    "confidence": "abstains",
}

_SHEET: dict[str, Callable[[Description], object]] = {
    "model": lambda each: each.name.model,
    "unit": lambda each: short_unit(each.name),
    "label": lambda each: each.concepts[0].concept,
    "abstained": lambda each: each.abstained,
    "reason": lambda each: each.reason,
    "confidence": lambda each: each.confidence,
    "active_for": lambda each: _first(each.active_for),
    "suppresses": lambda each: _first(each.suppresses),
    "score": lambda each: each.concepts[0].score,
    "effect": lambda each: each.concepts[0].causal_score,
    "margin": lambda each: each.margin,
    "null_percentile": lambda each: each.null_percentile,
    "contrast": lambda each: each.contrast,
    "stability": lambda each: each.stability,
    "runners_up": lambda each: "; ".join(concept.concept for concept in each.concepts[1:]),
}
"""Columns of --csv."""

Units = Annotated[
    list[str] | None,
    typer.Argument(
        help="Units: LAYER/UNIT, LAYER@DICTIONARY/FEATURE, MODEL/… or full names; or a LAYER, all its units."
    ),
]
Ranges = Annotated[str, typer.Option("--units", "-u", help="Units of the layer: 0-9,12.")]
Vocabulary = Annotated[
    str, typer.Option("--vocabulary", help="Concepts to choose from: model-labels, emoji, imagenet, or one you made.")
]
Concepts = Annotated[list[str] | None, typer.Option("--concept", "-c", help="A concept to choose from; repeat it.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-n", min=1, help="Show so many, the most clearly labelled first; default 10 of no layer."),
]
Embedding = Annotated[str, typer.Option("--embedding", help="filter, pattern or causal; default: the layer's best.")]


def describe(
    units: Units = None,
    model: Model = DEFAULT_MODEL,
    layer: Layer = "",
    ranges: Ranges = "",
    vocabulary: Vocabulary = "model-labels",
    concepts: Concepts = None,
    top_k: TopK = 3,
    limit: Limit = None,
    embedding: Embedding = "",
    local: Local = False,
    as_json: output.Json = False,
    as_csv: output.Csv = False,
) -> None:
    """Say what units mean: the concepts near them, ranked by what the unit does, and how far to trust the first.

    A layer stands for all its units. Without units or a layer, the most clearly labelled units of the last layer before
    the logits are shown.

    Examples:
        miclip describe layer4/12 logits/3

        miclip describe layer4 --csv

        miclip describe --layer layer4 --limit 10

        miclip describe --layer layer3 --units 0-9 --vocabulary emoji

        miclip describe layer4@topk-512/12

        miclip describe layer4/12 -c fur -c water -c wheel
    """
    if units and (ranges or layer):
        raise InvalidInput("Give either units (layer4/12) or --layer with --units, not both.", field="UNIT")
    with backend(local) as service:
        chosen = named_units(service, model, units) if units else units_of_layer(service, model, layer, ranges)
        with progress_bar() if len(chosen) > _BATCH else nullcontext() as report:
            answers, verdict = ask(service, chosen, vocabulary, concepts or [], top_k, embedding, report)
    if limit or not (units or layer or ranges):
        answers = strongest(answers, limit or _STRONGEST)
    output.emit(answers, as_json, lambda: show(answers, verdict), output.sheet_of(_SHEET, answers) if as_csv else None)


def named_units(service: Backend, model: str, names: Sequence[str]) -> list[UnitName]:
    """Return the units that arguments name, those of a layer for its name.

    Raises:
        InvalidInput: an argument names neither.
        NotFound: there is no such layer.
    """
    chosen: list[UnitName] = []
    for name in names:
        layer = layer_argument(name)
        chosen += units_of_layer(service, model, layer) if layer else parse_units([name], model)
    return chosen


def strongest(descriptions: Sequence[Description], limit: int) -> list[Description]:
    """Return the units whose label stands out most, by contrast or else by score; those that abstain last."""

    def order(description: Description) -> tuple[bool, float]:
        contrast = description.contrast
        return description.abstained, -(description.concepts[0].score if contrast is None else contrast)

    return sorted(descriptions, key=order)[:limit]


def show(descriptions: Sequence[Description], verdict: Verdict | None = None) -> None:
    """Print descriptions as a table, and what is promised of them."""
    models = ", ".join(sorted({description.name.model for description in descriptions}))
    shown = 4 if output.out.width < _NARROW else 7 if output.out.width < _WIDE else len(_COLUMNS)
    columns, note = _COLUMNS[:shown], _NOTE if shown == len(_COLUMNS) else _NARROW_NOTE
    table = output.table(*columns)
    table.columns[0].no_wrap = True  # a name is copied into the next command
    for description in descriptions:
        table.add_row(*_cells(description)[: len(columns)])
    output.show(f"What units of {models} mean", table, note)
    for sentence in promised(descriptions, verdict):
        output.out.print(f"[dim]{output.text(sentence)}[/]")


def promised(descriptions: Sequence[Description], verdict: Verdict | None) -> list[str]:
    """Return sentences that say what is promised of the layers of units, and why nothing is where labels abstain."""
    layers = {each.name.layer: each.promise for each in descriptions if each.promise}
    sentences = [f"{short_layer(layer)}: {promise}." for layer, promise in layers.items()]
    reached = any(promise.reached for promise in layers.values())
    if verdict and (not verdict.known or (layers and not reached)):
        sentences.append(f"{verdict}. {advice(verdict, reached)}".strip())
    return sentences


def _first(concepts: Sequence[ScoredConcept]) -> str:
    return concepts[0].concept if concepts else ""


def _cells(description: Description) -> tuple[str, ...]:
    best, *rest = description.concepts
    label, stability, sure = output.text(best.concept), description.stability, description.confidence
    excited = description.active_for[0].activation if description.active_for else None
    return (
        output.text(short_unit(description.name)),
        f"[dim]({label}) {_WHY[description.reason]}[/]" if description.reason else f"[bold]{label}[/]",
        output.number(best.causal_score),
        output.number(None if sure is None else 100 * sure, 0),
        output.text(_first(description.active_for)),
        output.number(excited, 1),
        output.text(_first(description.suppresses)),
        output.number(best.score),
        output.number(None if stability is None else 100 * stability, 0),
        output.text(", ".join(concept.concept for concept in rest)),
    )


def units_of_layer(service: Backend, model: str, layer: str = "", ranges: str = "") -> list[UnitName]:
    """Return the units of a layer, all or those of ``ranges``; raises NotFound when there is no such layer."""
    info = service.get_model(model)
    layer, sizes = layer or default_layer(info), layer_sizes(info)
    if layer not in sizes:
        names = ", ".join(sizes)
        raise NotFound(f"--layer: {model} has no layer {layer!r}; it has {names}.", field="--layer", allowed=names)
    indices = parse_ranges(ranges) if ranges else range(sizes[layer])
    return [UnitName(model, layer, index) for index in indices]


def ask(
    service: Backend,
    units: Sequence[UnitName],
    vocabulary: str,
    concepts: Sequence[str],
    top_k: int,
    embedding: str,
    report: Report | None = None,
) -> tuple[list[Description], Verdict | None]:
    """Describe units, in batches of one model and at most a thousand; the order stays. Give the last verdict, too."""
    words = {"concepts": concepts} if concepts else {"vocabulary": vocabulary}
    answers: dict[UnitName, Description] = {}
    verdict: Verdict | None = None
    for model in dict.fromkeys(unit.model for unit in units):
        mine = [unit for unit in dict.fromkeys(units) if unit.model == model]
        for start in range(0, len(mine), _BATCH):
            result = service.describe(mine[start : start + _BATCH], top_k=top_k, embedding=embedding or None, **words)
            verdict = result.verdict
            answers.update({description.name: description for description in result.descriptions})
            if report:
                report(Progress(Stage(StageKind.DESCRIPTIONS), len(answers), len(units)))
    return [answers[unit] for unit in units], verdict
