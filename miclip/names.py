"""The grammar of resource names (AIP-122).

``models/{model}/layers/{layer}/units/{n}`` and its relatives. Names are parsed here and nowhere else, and never become
file paths. The features of a dictionary are the units of a layer of its own, ``{layer}/dictionaries/{dictionary}``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from miclip.errors import InvalidInput

_ID = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?"
_INDEX = r"0|[1-9][0-9]{0,8}"
_DICTIONARIES = "/dictionaries/"
_LAYER = rf"{_ID}(?:{_DICTIONARIES}{_ID})?"
_MAX_NAME = 512


@dataclass(frozen=True)
class ModelName:
    """``models/{model}``."""

    model: str

    def __str__(self) -> str:
        return f"models/{self.model}"


@dataclass(frozen=True)
class LayerName:
    """``models/{model}/layers/{layer}`` or ``…/layers/{layer}/dictionaries/{dictionary}``; dots of paths stay."""

    model: str
    layer: str

    def __str__(self) -> str:
        return f"models/{self.model}/layers/{self.layer}"


@dataclass(frozen=True)
class UnitName:
    """``models/{model}/layers/{layer}/units/{n}`` or ``…/dictionaries/{dictionary}/features/{n}``, counted from 0."""

    model: str
    layer: str
    unit: int

    def __str__(self) -> str:
        kind = "features" if is_dictionary_layer(self.layer) else "units"
        return f"models/{self.model}/layers/{self.layer}/{kind}/{self.unit}"

    @property
    def layer_name(self) -> LayerName:
        """The layer that holds the unit."""
        return LayerName(self.model, self.layer)


def parse_model(name: str, *, field: str = "name") -> ModelName:
    """Parse ``models/{model}``; raises InvalidInput."""
    return ModelName(*_match(name, f"models/({_ID})", "models/{model}", field))


def parse_layer(name: str, *, field: str = "name") -> LayerName:
    """Parse the name of a layer or of a dictionary on one; raises InvalidInput."""
    form = "models/{model}/layers/{layer} or models/{model}/layers/{layer}/dictionaries/{dictionary}"
    return LayerName(*_match(name, f"models/({_ID})/layers/({_LAYER})", form, field))


def parse_unit(name: str, *, field: str = "name") -> UnitName:
    """Parse the name of a neuron, or of a feature of a dictionary; raises InvalidInput."""
    form = "models/{model}/layers/{layer}/units/{n} or …/layers/{layer}/dictionaries/{dictionary}/features/{n}"
    neuron, feature = rf"({_ID})/units", rf"({_ID}{_DICTIONARIES}{_ID})/features"
    parts = _match(name, f"models/({_ID})/layers/(?:{neuron}|{feature})/({_INDEX})", form, field)
    return UnitName(parts[0], parts[1] or parts[2], int(parts[3]))


def dictionary_layer(base: str, dictionary: str) -> str:
    """Return the name of the layer of features that a dictionary makes of the layer ``base``."""
    return f"{base}{_DICTIONARIES}{dictionary}"


def is_dictionary_layer(layer: str) -> bool:
    """Whether the units of ``layer`` are features of a dictionary."""
    return _DICTIONARIES in layer


def base_layer(layer: str) -> str:
    """Return the layer that a dictionary's features are made of; a layer of neurons is its own base."""
    return layer.partition(_DICTIONARIES)[0]


def parse_id(name: str, collection: str, *, field: str = "name") -> str:
    """Parse ``{collection}/{id}`` for flat collections (``atlases``, ``vocabularies``, ``policies``, ``alignments``).

    Returns:
        The id.

    Raises:
        InvalidInput: the name does not have that form.
    """
    found: str = _match(name, f"{collection}/({_ID})", f"{collection}/{{id}}", field)[0]
    return found


def check_id(value: str, *, field: str) -> str:
    """Return ``value`` if it may be the last segment of a name; raises InvalidInput."""
    found: str = _match(value, f"({_ID})", "letters, digits, '_', '.', '-', 1 to 128 characters", field)[0]
    return found


def _match(name: str, pattern: str, form: str, field: str) -> tuple[Any, ...]:
    found = re.fullmatch(pattern, name, re.ASCII) if len(name) <= _MAX_NAME else None
    if found is None or ".." in name:
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise InvalidInput(f"{field}: {shown!r} is not a name of the form {form}.", field=field, allowed=form)
    return found.groups()
