from __future__ import annotations

import math

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from miclip.errors import InvalidInput, NotFound, TooLarge
from miclip.settings import settings
from miclip.steering.edits import Edit, Op, compile_edits, fingerprint, validate_edits

SIZES = {"layer1": 4, "logits": 3}
EDITS = st.builds(
    Edit,
    layer=st.sampled_from(sorted(SIZES)),
    unit=st.integers(0, 2),
    op=st.sampled_from(Op),
    value=st.floats(-100, 100),
)


def by_hand(value: float, edits: list[Edit], layer: str, unit: int) -> float:
    for edit in edits:
        if (edit.layer, edit.unit) == (layer, unit):
            value = {Op.SCALE: value * edit.value, Op.ADD: value + edit.value, Op.CLAMP: edit.value}[edit.op]
    return value


@hypothesis.settings(deadline=None)  # the first call pays for torch's start
@given(st.lists(st.lists(EDITS, max_size=6), max_size=4))
def test_compiled_edits_do_what_the_edits_do_one_after_the_other(per_sample: list[list[Edit]]) -> None:
    batch = compile_edits(per_sample, SIZES, dtype=torch.float64)
    for layer, units in SIZES.items():
        x = torch.linspace(-2, 3, units, dtype=torch.float64).repeat(len(per_sample), 1)
        expected = [[by_hand(x[r, u].item(), e, layer, u) for u in range(units)] for r, e in enumerate(per_sample)]
        if layer in batch.layers:
            edits = batch.layers[layer]
            x[edits.rows] = x[edits.rows] * edits.gain + edits.bias
        torch.testing.assert_close(x, torch.tensor(expected, dtype=torch.float64).view(x.shape))


def test_only_steered_rows_are_stored() -> None:
    edit = Edit("layer1", 2, Op.SCALE, 0.0)
    batch = compile_edits([[], [edit], [], [edit]], SIZES)
    assert list(batch.layers) == ["layer1"]
    assert batch.layers["layer1"].rows.tolist() == [1, 3]
    assert batch.layers["layer1"].gain.shape == (2, 4)


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [Edit("layer1", 0, Op.SCALE, 1.0)],
        [Edit("layer1", 0, Op.ADD, 0.0)],
        [Edit("layer1", 0, Op.SCALE, 2.0), Edit("layer1", 0, Op.SCALE, 0.5)],
        [Edit("layer1", 0, Op.ADD, 2.0), Edit("layer1", 0, Op.ADD, -2.0)],
    ],
)
def test_edits_that_change_nothing_compile_to_nothing(edits: list[Edit]) -> None:
    assert not compile_edits([edits, edits], SIZES)


def test_a_clamp_is_kept_even_when_its_value_is_one() -> None:
    assert compile_edits([[Edit("layer1", 0, Op.CLAMP, 1.0)]], SIZES)


BEYOND = [(op, value) for op in Op for value in (math.nan, math.inf, -math.inf, 1e38, -1e38, 10_000.5)]


@pytest.mark.parametrize(("op", "value"), [*BEYOND, (Op.SCALE, 100.5), (Op.SCALE, -100.5)])
def test_a_value_out_of_range_is_refused_by_name_and_range(op: Op, value: float) -> None:
    bound = settings().max_strength if op is Op.SCALE else settings().max_offset
    good = Edit("layer1", 0, op, 1.0)
    with pytest.raises(InvalidInput) as caught:
        validate_edits([good, good, good, Edit("layer1", 0, op, value)], SIZES)
    assert caught.value.field == "edits[3].value"
    assert caught.value.allowed == f"-{bound:g} to {bound:g}"
    assert caught.value.allowed in str(caught.value)


@pytest.mark.parametrize("op", [Op.SCALE, Op.ADD])
def test_edits_of_a_unit_are_held_to_the_range_together(op: Op) -> None:
    bound = settings().max_strength if op is Op.SCALE else settings().max_offset
    most, other = Edit("layer1", 0, op, bound), Edit("layer1", 1, op, bound)
    validate_edits([other, most], SIZES)
    with pytest.raises(InvalidInput, match=r"edits\[3\]\.value: together, the edits of unit 0") as caught:
        validate_edits([most, other, Edit("layer1", 0, Op.SCALE, 1.0), most], SIZES)
    assert caught.value.field == "edits[3].value"


@pytest.mark.parametrize("unit", [-1, 4, 2**31])
def test_a_unit_out_of_range_is_refused_by_name_and_range(unit: int) -> None:
    with pytest.raises(InvalidInput, match="0 to 3") as caught:
        validate_edits([Edit("layer1", unit, Op.SCALE, 2.0)], SIZES, field="steering.edits")
    assert (caught.value.field, caught.value.allowed) == ("steering.edits[0].unit", "0 to 3")


def test_an_unknown_layer_is_not_found_and_the_known_ones_are_listed() -> None:
    with pytest.raises(NotFound, match="layer1, logits") as caught:
        validate_edits([Edit("x" * 10_000, 0, Op.SCALE, 2.0)], SIZES)
    assert caught.value.field == "edits[0].layer"
    assert len(str(caught.value)) < 300


def test_too_many_edits_are_refused_and_the_limit_is_told() -> None:
    edits = [Edit("layer1", 0, Op.SCALE, -1.0)] * settings().max_edits
    validate_edits(edits, SIZES)
    with pytest.raises(TooLarge, match=str(settings().max_edits)):
        validate_edits(edits * 2, SIZES)


def test_no_edits_have_the_empty_fingerprint() -> None:
    assert fingerprint([]) == ""


def test_the_fingerprint_ignores_order_across_units_and_keeps_it_on_one() -> None:
    double, plus = Edit("layer1", 0, Op.SCALE, 2.0), Edit("layer1", 0, Op.ADD, 1.0)
    other = Edit("logits", 1, Op.CLAMP, 0.0)
    assert fingerprint([double, plus, other]) == fingerprint([other, double, plus])
    assert fingerprint([double, plus]) != fingerprint([plus, double])


def test_equal_values_have_equal_fingerprints_and_others_differ() -> None:
    assert fingerprint([Edit("layer1", 0, Op.ADD, 2)]) == fingerprint([Edit("layer1", 0, Op.ADD, 2.0)])
    assert fingerprint([Edit("layer1", 0, Op.CLAMP, -0.0)]) == fingerprint([Edit("layer1", 0, Op.CLAMP, 0.0)])
    variants = [Edit("layer1", 0, op, value) for op in Op for value in (1.0, 2.0)]
    assert len({fingerprint([edit]) for edit in variants}) == len(variants)
