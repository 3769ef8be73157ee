from __future__ import annotations

import pytest
import torch
from torch import Tensor

from miclip.steering.apply import apply_edits
from miclip.steering.edits import Edit, LayerEdits, Op, compile_edits

UNITS = 6
SHAPES = [((5, UNITS, 3, 2), 1), ((5, 3, 2, UNITS), 3), ((5, 7, UNITS), 2), ((5, UNITS), 1)]


def edits_of(*per_sample: list[Edit]) -> LayerEdits:
    return compile_edits(per_sample, {"layer": UNITS}).layers["layer"]


@pytest.fixture(params=SHAPES, ids=["channels", "channels last", "tokens", "vector"])
def case(request: pytest.FixtureRequest) -> tuple[Tensor, int]:
    shape, axis = request.param
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)), axis


@pytest.mark.parametrize("op", Op)
def test_an_edit_reaches_every_position_of_its_unit_and_no_other(case: tuple[Tensor, int], op: Op) -> None:
    x, axis = case
    before = x.clone()
    y = apply_edits(x, edits_of([], [Edit("layer", 4, op, 3.0)], [], [], []), axis)
    wanted = before.clone()
    unit = wanted[1].select(axis - 1, 4)
    unit.copy_({Op.SCALE: unit * 3, Op.ADD: unit + 3, Op.CLAMP: torch.full_like(unit, 3.0)}[op])
    assert torch.equal(y, wanted)
    assert torch.equal(x, before), "the layer's own output may be read elsewhere and must not change"


def test_rows_without_edits_keep_their_bits_even_when_not_finite(case: tuple[Tensor, int]) -> None:
    x, axis = case
    x[0], x[2], x[3] = float("nan"), float("inf"), -0.0
    y = apply_edits(x, edits_of([], [Edit("layer", 0, Op.SCALE, 7.0)], [], [], []), axis)
    rows = [0, 2, 3, 4]
    assert torch.equal(x[rows].view(torch.int32), y[rows].view(torch.int32))


def test_a_row_is_edited_alike_alone_and_among_others(case: tuple[Tensor, int]) -> None:
    x, axis = case
    mine = [Edit("layer", 1, Op.SCALE, -0.37), Edit("layer", 1, Op.ADD, 0.11)]
    others = [Edit("layer", 2, Op.SCALE, 9.0)]
    mixed = apply_edits(x, edits_of(others, mine, others, [], others), axis)
    alone = apply_edits(x[1:2], edits_of(mine), axis)
    assert torch.equal(mixed[1:2], alone)


def test_no_rows_return_the_very_tensor(case: tuple[Tensor, int]) -> None:
    x, axis = case
    rows, nothing = torch.empty(0, dtype=torch.int64), torch.empty(0, UNITS)
    none = LayerEdits(rows, nothing, nothing, rows.bool())
    assert apply_edits(x, none, axis) is x


def test_memory_layout_and_type_are_kept() -> None:
    x = torch.randn(2, UNITS, 4, 4).to(memory_format=torch.channels_last, dtype=torch.bfloat16)
    y = apply_edits(x, edits_of([], [Edit("layer", 0, Op.SCALE, 2.0)]), 1)
    assert (y.stride(), y.dtype) == (x.stride(), torch.bfloat16)
