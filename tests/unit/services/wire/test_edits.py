"""Edits of a request."""

from __future__ import annotations

import pytest

from miclip.errors import InvalidInput
from miclip.steering.edits import Edit, Op
from miclip.v1 import resources_pb2 as pb
from services.wire.edits import to_edits

LAYER = "models/m/layers/a"


def read(*edits: pb.Edit) -> tuple[Edit, ...]:
    return to_edits(edits, "m", {"a": 4}, lambda _layer, _unit: 2.0, field="edits")


def test_different_operations_on_a_unit_stay_in_order() -> None:
    found = read(pb.Edit(layer=LAYER, unit=1, scale=2), pb.Edit(layer=LAYER, unit=1, add=0.5))
    assert found == (Edit("a", 1, Op.SCALE, 2.0), Edit("a", 1, Op.ADD, 0.5))


@pytest.mark.parametrize("op", ["scale", "add", "clamp"])
def test_the_same_operation_on_a_unit_twice_neither_replaces_nor_multiplies(op: str) -> None:
    first, second = pb.Edit(layer=LAYER, unit=1, **{op: 2}), pb.Edit(layer=LAYER, unit=1, **{op: 3})
    with pytest.raises(InvalidInput, match=rf"edits\[0\] sets {op} of unit 1") as caught:
        read(first, second)
    assert caught.value.field == f"edits[1].{op}"
