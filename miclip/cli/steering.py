"""From what ``--steer`` asks for to edits of single units, or a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, TypedDict

import typer

from miclip.cli import output
from miclip.cli.backend import Backend
from miclip.cli.evidence import warn
from miclip.cli.localize import search_layers
from miclip.cli.policies import edit_text
from miclip.cli.specs import STEER_FORMS, ConceptSteer, PolicySteer, Steer, parse_steer, short_layer
from miclip.errors import InvalidInput
from miclip.names import is_dictionary_layer
from miclip.steering.edits import Edit, Op

Steers = Annotated[list[str] | None, typer.Option("--steer", "-s", help=f"Repeat for several: {STEER_FORMS}.")]
UnitCount = Annotated[int, typer.Option("--units-per-concept", min=1, max=1000, help='Units that "CONCEPT=2.0" turns.')]


class Steering(TypedDict):
    """What is asked for: edits of single units, or a policy."""

    edits: list[Edit] | None
    policy: str


def parse_steers(values: Sequence[str], model: str) -> list[Steer]:
    """Parse arguments of ``--steer``; of one concept that is named twice the last counts, with a note.

    Raises:
        InvalidInput: an argument has none of the forms.
    """
    wanted: list[Steer] = []
    for one in (parse_steer(value, model) for value in values):
        if isinstance(one, ConceptSteer):
            for before in [other for other in wanted if _same_concept(one, other)]:
                output.note(f'"{one.concept}" is steered twice; the last counts: ×{one.factor:g}.')
                wanted.remove(before)
        wanted.append(one)
    return wanted


def resolve(
    service: Backend,
    model: str,
    wanted: Sequence[Steer],
    layers: Sequence[str],
    top_k: int,
    method: str,
    reconstruct: bool = False,
) -> Steering:
    """Turn what was asked for into edits of single units, or one policy.

    The same operation on a unit that is asked for twice, as by two concepts that share it, is made once: the last.

    Raises:
        InvalidInput: a policy together with anything else, or ``reconstruct`` for something else than features.
    """
    policies = [one.policy_id for one in wanted if isinstance(one, PolicySteer)]
    if policies and len(wanted) > 1:
        raise InvalidInput("--steer: a policy stands alone; leave out the other --steer options.", field="--steer")
    edits: list[Edit] = []
    for one in wanted:
        if isinstance(one, ConceptSteer):
            edits.extend(_units_of(service, model, one, layers, top_k, method))
        elif isinstance(one, Edit):
            edits.append(one)
    edits = _last_of_each(edits)
    if reconstruct:
        edits = _reconstructed(edits)
    return Steering(edits=edits or None, policy=policies[0] if policies else "")


def _last_of_each(edits: Sequence[Edit]) -> list[Edit]:
    last: dict[tuple[str, int, Op], Edit] = {}
    for edit in edits:
        key = edit.layer, edit.unit, edit.op
        if key in last:
            output.note(f"{short_layer(edit.layer)}/{edit.unit} is steered twice; the last counts: {edit_text(edit)}.")
        last.pop(key, None)
        last[key] = edit
    return list(last.values())


def _units_of(
    service: Backend, model: str, steer: ConceptSteer, layers: Sequence[str], top_k: int, method: str
) -> list[Edit]:
    where = search_layers(service, model, layers)
    result = service.localize([steer.concept], model=model, layers=where, top_k=top_k, method=method)
    (localization,) = result.localizations
    warn(steer.concept, localization.evidence)
    return [Edit(unit.layer, unit.unit, Op.SCALE, steer.factor) for unit in localization.units]


def _reconstructed(edits: Sequence[Edit]) -> list[Edit]:
    neurons = [edit for edit in edits if not is_dictionary_layer(edit.layer)]
    if neurons or not edits:
        what = f"{short_layer(neurons[0].layer)}/{neurons[0].unit} is a neuron" if neurons else "no feature is steered"
        text = f"--reconstruct: {what}; only features of a dictionary (LAYER@DICTIONARY) are reconstructed from."
        raise InvalidInput(text, field="--reconstruct", allowed="with features alone")
    return [replace(edit, reconstruct=True) for edit in edits]


def _same_concept(one: ConceptSteer, other: Steer) -> bool:
    return isinstance(other, ConceptSteer) and other.concept.casefold() == one.concept.casefold()
