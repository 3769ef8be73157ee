"""The small languages of the command line: which units, and which steering."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from miclip.errors import InvalidInput
from miclip.names import UnitName, base_layer, check_id, dictionary_layer, is_dictionary_layer, parse_unit
from miclip.steering.edits import Edit, Op

UNIT_FORMS = (
    "LAYER/UNIT, MODEL/LAYER/UNIT or models/MODEL/layers/LAYER/units/UNIT; of a feature LAYER@DICTIONARY/FEATURE, "
    "MODEL/LAYER@DICTIONARY/FEATURE or models/MODEL/layers/LAYER/dictionaries/DICTIONARY/features/FEATURE"
)
STEER_FORMS = (
    '"CONCEPT=2.0" (turn a concept\'s units up; 0 removes them), '
    '"LAYER/UNIT*2.0" (scale), "LAYER/UNIT+0.5" (add), "LAYER/UNIT=0" (clamp), or "policies/ID"; a unit is named as '
    "`miclip describe` names it, also LAYER@DICTIONARY/FEATURE or MODEL/LAYER/UNIT"
)
_PART = r"[A-Za-z0-9_.-]+"
_LAYER = rf"{_PART}(?:(?:/dictionaries/|@){_PART})?"
_UNIT = r"(?:([^/]+)/)?([^/]+(?:/dictionaries/[^/]+)?)/([^/]+)"
_EDITED = rf"models/[^\s=*×]+/\d+|(?:{_PART}/)?{_LAYER}/\d+"
"""A unit before an operation: a path that ends in a number is never a concept."""
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_OPS = {"*": Op.SCALE, "×": Op.SCALE, "+": Op.ADD, "-": Op.ADD, "=": Op.CLAMP}


@dataclass(frozen=True)
class ConceptSteer:
    """Scale the units of ``concept`` by ``factor``."""

    concept: str
    factor: float


@dataclass(frozen=True)
class PolicySteer:
    """Apply a stored policy."""

    policy_id: str


Steer = ConceptSteer | PolicySteer | Edit


def full_layer(layer: str) -> str:
    """Return a layer's name with the short form of a dictionary, ``layer4@topk-512``, spelled out."""
    base, at, dictionary = layer.partition("@")
    return dictionary_layer(base, dictionary) if at else layer


def short_layer(layer: str) -> str:
    """Return a layer as people read it: ``layer4@topk-512`` for ``layer4/dictionaries/topk-512``."""
    if not is_dictionary_layer(layer):
        return layer
    base = base_layer(layer)
    return f"{base}@{layer.removeprefix(dictionary_layer(base, ''))}"


def short_unit(unit: UnitName) -> str:
    """Return a unit as people read it and the commands take it: ``layer4/12``, ``layer4@topk-512/12``."""
    return f"{short_layer(unit.layer)}/{unit.unit}"


def parse_units(units: list[str], model: str) -> list[UnitName]:
    """Parse unit arguments; ``model`` fills in what the short form leaves out.

    Raises:
        InvalidInput: an argument has none of the forms.
    """
    return [_unit(value, model, f"UNIT {position}") for position, value in enumerate(units, 1)]


def layer_argument(value: str) -> str | None:
    """Return the layer that an argument names, ``layer4`` or ``layer4@topk-512``; None for a unit of one."""
    return full_layer(value) if re.fullmatch(_LAYER, value, re.ASCII) else None


def parse_ranges(ranges: str, *, field: str = "--units") -> list[int]:
    """Parse ``"0-9,12"`` into unit indices in the order given, both ends included.

    Raises:
        InvalidInput: not of that form, or an end lies before its start.
    """
    indices: list[int] = []
    for part in ranges.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        if found is None:
            raise _bad(field, ranges, "numbers and ranges such as 0-9,12")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= 100_000:
            raise _bad(field, part, "ranges from a smaller to a larger number, such as 0-9,12, of up to 100000 units")
        indices.extend(range(first, last + 1))
    return indices


def parse_steer(value: str, model: str) -> Steer:
    """Parse one ``--steer`` argument; see STEER_FORMS. Edits are read as they are printed, too: ``layer4/12 ×2``.

    Args:
        value: The argument.
        model: The model that is steered.

    Raises:
        InvalidInput: none of the forms, a unit of another model, or a strength that is not finite.
    """
    if value.startswith("policies/"):
        return PolicySteer(check_id(value.removeprefix("policies/"), field="--steer"))
    if found := re.fullmatch(rf"\s*({_EDITED})\s*([*×+=-])\s*({_NUMBER})\s*", value, re.ASCII):
        strength = -float(found[3]) if found[2] == "-" else float(found[3])
        unit = _unit(found[1], model, "--steer")
        if unit.model != model:
            text = f"--steer: {found[1]} is a unit of {unit.model}, but {model} is steered. Add --model {unit.model}."
            raise InvalidInput(text, field="--steer", allowed=f"units of {model}")
        return Edit(unit.layer, unit.unit, _OPS[found[2]], _finite(strength, value))
    if colon := re.fullmatch(rf"({_LAYER}):(\d+)([*×+=-].*)", value, re.ASCII):
        raise _bad("--steer", value, f'a slash before the unit: "{colon[1]}/{colon[2]}{colon[3]}"')
    if found := re.fullmatch(rf"\s*(.*\S)\s*[=*×]\s*({_NUMBER})\s*", value, re.ASCII | re.DOTALL):
        return ConceptSteer(found[1], _finite(float(found[2]), value))
    raise _bad("--steer", value, STEER_FORMS)


def _unit(value: str, model: str, field: str) -> UnitName:
    name = full_layer(value)
    if found := re.fullmatch(_UNIT, name):
        kind = "features" if is_dictionary_layer(found[2]) else "units"
        name = f"models/{found[1] or model}/layers/{found[2]}/{kind}/{found[3]}"
    try:
        return parse_unit(name, field=field)
    except InvalidInput:
        raise _bad(field, value, UNIT_FORMS) from None


def _finite(strength: float, value: str) -> float:
    if not math.isfinite(strength):
        raise _bad("--steer", value, "a finite strength")
    return strength


def _bad(field: str, value: str, allowed: str) -> InvalidInput:
    shown = value if len(value) <= 80 else value[:77] + "..."
    return InvalidInput(f"{field}: {shown!r} cannot be read. Use {allowed}.", field=field, allowed=allowed)
