"""The grammar of resource names (AIP-122).

``models/{model}/layers/{layer}/units/{n}`` and its relatives. Names are parsed here and nowhere else, and never become
file paths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from miclip.errors import InvalidInput

_ID = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?"
_INDEX = r"0|[1-9][0-9]{0,8}"
_MAX_NAME = 512


@dataclass(frozen=True)
class ModelName:
    """``models/{model}``."""

    model: str

    def __str__(self) -> str:
        return f"models/{self.model}"


@dataclass(frozen=True)
class LayerName:
    """``models/{model}/layers/{layer}``; dots of module paths stay."""

    model: str
    layer: str

    def __str__(self) -> str:
        return f"models/{self.model}/layers/{self.layer}"


@dataclass(frozen=True)
class UnitName:
    """``models/{model}/layers/{layer}/units/{n}``, counted from 0."""

    model: str
    layer: str
    unit: int

    def __str__(self) -> str:
        return f"models/{self.model}/layers/{self.layer}/units/{self.unit}"

    @property
    def layer_name(self) -> LayerName:
        """The layer that holds the unit."""
        return LayerName(self.model, self.layer)


def parse_model(name: str, *, field: str = "name") -> ModelName:
    """Parse ``models/{model}``; raises InvalidInput."""
    return ModelName(*_match(name, f"models/({_ID})", "models/{model}", field))


def parse_layer(name: str, *, field: str = "name") -> LayerName:
    """Parse ``models/{model}/layers/{layer}``; raises InvalidInput."""
    return LayerName(*_match(name, f"models/({_ID})/layers/({_ID})", "models/{model}/layers/{layer}", field))


def parse_unit(name: str, *, field: str = "name") -> UnitName:
    """Parse ``models/{model}/layers/{layer}/units/{n}``; raises InvalidInput."""
    form = "models/{model}/layers/{layer}/units/{n}"
    model, layer, unit = _match(name, f"models/({_ID})/layers/({_ID})/units/({_INDEX})", form, field)
    return UnitName(model, layer, int(unit))


def parse_id(name: str, collection: str, *, field: str = "name") -> str:
    """Parse ``{collection}/{id}`` for flat collections (``atlases``, ``vocabularies``, ``policies``, ``alignments``).

    Returns:
        The id.

    Raises:
        InvalidInput: the name does not have that form.
    """
    return _match(name, f"{collection}/({_ID})", f"{collection}/{{id}}", field)[0]


def check_id(value: str, *, field: str) -> str:
    """Return ``value`` if it may be the last segment of a name; raises InvalidInput."""
    return _match(value, f"({_ID})", "letters, digits, '_', '.', '-', 1 to 128 characters", field)[0]


def _match(name: str, pattern: str, form: str, field: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, name, re.ASCII) if len(name) <= _MAX_NAME else None
    if found is None or ".." in name:
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise InvalidInput(f"{field}: {shown!r} is not a name of the form {form}.", field=field, allowed=form)
    return found.groups()
