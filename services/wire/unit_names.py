"""Names of units in a request: all of one model, grouped by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miclip.atlas import Atlas
from miclip.errors import InvalidInput
from miclip.names import LayerName, UnitName, parse_unit


@dataclass(frozen=True)
class RequestedUnits:
    """Units of one model in the order of the request.

    Attributes:
        names: The units, at least one.
        field: Name of the request's field.
    """

    names: tuple[UnitName, ...]
    field: str

    @property
    def model(self) -> str:
        """The model of all of them."""
        return self.names[0].model

    def layers(self) -> list[tuple[str, LayerName]]:
        """Each unit's field and layer."""
        return [(f"{self.field}[{place}]", name.layer_name) for place, name in enumerate(self.names)]

    def by_layer(self, atlas: Atlas) -> dict[str, list[int]]:
        """Return layer → places in the request of its units; raises InvalidInput when a layer has no such unit."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            check_unit(atlas, name, f"{self.field}[{place}]")
            places.setdefault(name.layer, []).append(place)
        return places


def parse_units(names: Sequence[str], limit: int, field: str = "units") -> RequestedUnits:
    """Parse 1 to ``limit`` unit names of one model; raises InvalidInput."""
    if not 1 <= len(names) <= limit:
        allowed = f"1 to {limit} entries"
        raise InvalidInput(f"{field} has {len(names)} entries; allowed is {allowed}.", field=field, allowed=allowed)
    parsed = tuple(parse_unit(name, field=f"{field}[{place}]") for place, name in enumerate(names))
    for place, name in enumerate(parsed):
        if name.model != parsed[0].model:
            text = f"{field}[{place}] is of model {name.model}, {field}[0] of {parsed[0].model}; ask for one at a time."
            raise InvalidInput(text, field=f"{field}[{place}]", allowed="units of one model")
    return RequestedUnits(parsed, field)


def check_unit(atlas: Atlas, name: UnitName, field: str) -> None:
    """Raise InvalidInput when the layer, which the atlas has, has no such unit."""
    units = atlas.layer(name.layer).entry.units
    if name.unit >= units:
        allowed = f"0 to {units - 1}"
        text = f"{field}: layer {name.layer} of models/{name.model} has units {allowed}, no unit {name.unit}."
        raise InvalidInput(text, field=field, allowed=allowed)
