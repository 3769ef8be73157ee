"""From what a policy asks for to the edits that are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from miclip.errors import InvalidInput
from miclip.names import UnitName, is_dictionary_layer
from miclip.steering.edits import Edit, Op


def concept_edits(units: Sequence[UnitName], scale: float, reconstruct: bool, field: str) -> tuple[Edit, ...]:
    """Return the edits of a concept: its units, each scaled.

    Args:
        units: The units that the concept was localized to.
        scale: Factor of every unit.
        reconstruct: Whether the edits are made in the dictionary's reconstruction.
        field: Path of ``reconstruct`` in the request.

    Raises:
        InvalidInput: ``reconstruct``, and a unit is a neuron.
    """
    for unit in units if reconstruct else ():
        if not is_dictionary_layer(unit.layer):
            text = (
                f"{field}: unit {unit.unit} of {unit.layer!r}, which the concept was resolved to, is a neuron; only "
                "features of a dictionary are reconstructed from. Name dictionaries in layers."
            )
            raise InvalidInput(text, field=field, allowed="false unless all layers are dictionaries")
    return tuple(Edit(unit.layer, unit.unit, Op.SCALE, scale, reconstruct) for unit in units)


def absolute(edit: Edit, maximum: float, field: str) -> Edit:
    """Return an edit relative to its unit's maximum in units of the activation.

    Args:
        edit: Its value is a multiple of the maximum.
        maximum: Of the unit over the probe images.
        field: Path of the edit in the request.

    Raises:
        InvalidInput: the maximum is not above 0.
    """
    if not maximum > 0:
        text = f"{field}.relative_to_max: the unit is never above 0 on the probe images; give an absolute value."
        raise InvalidInput(text, field=f"{field}.relative_to_max", allowed="false for this unit")
    return replace(edit, value=edit.value * maximum)
