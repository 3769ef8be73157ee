"""From what a policy asks for to its edits."""

from __future__ import annotations

import pytest

from miclip.errors import InvalidInput
from miclip.names import UnitName
from miclip.steering.edits import Edit, Op
from miclip.steering.resolution import absolute, concept_edits

NEURON, FEATURE = UnitName("m", "layer4", 3), UnitName("m", "layer4/dictionaries/d", 5)


def test_a_concept_scales_its_units_in_order() -> None:
    edits = concept_edits([NEURON, FEATURE], 2.0, False, "policy.concept.reconstruct")
    assert edits == (Edit("layer4", 3, Op.SCALE, 2.0), Edit("layer4/dictionaries/d", 5, Op.SCALE, 2.0))


def test_only_features_are_reconstructed_from() -> None:
    assert all(edit.reconstruct for edit in concept_edits([FEATURE], 0.0, True, "f"))
    with pytest.raises(InvalidInput, match="unit 3 of 'layer4'") as caught:
        concept_edits([FEATURE, NEURON], 0.0, True, "policy.concept.reconstruct")
    assert caught.value.field == "policy.concept.reconstruct"


@pytest.mark.parametrize("maximum", [0.0, -1.0, float("nan")])
def test_an_edit_is_relative_to_a_maximum_above_0_alone(maximum: float) -> None:
    edit = Edit("layer4", 3, Op.ADD, 0.5)
    assert absolute(edit, 4.0, "edits[0]").value == 2.0
    with pytest.raises(InvalidInput) as caught:
        absolute(edit, maximum, "edits[0]")
    assert caught.value.field == "edits[0].relative_to_max"
