"""The arithmetic of receipts."""

from __future__ import annotations

import numpy as np
import pytest

from miclip.steering.edits import Edit, Op
from miclip.steering.effects import Measured, effect_of, measured_layers, norm_change, random_edits, shown_target


def test_effects_are_means_of_means_over_the_images_of_each_label() -> None:
    before = Measured(np.full((4, 4), 0.25, np.float32), {})
    after = before.probabilities.copy()
    after[0, 0], after[1, 0], after[2, 1] = 0.15, 0.05, 0.30
    effect = effect_of(before, Measured(after, {}), np.asarray([0, 0, 1, 2]))
    assert effect.target({0: 1.0}) == pytest.approx(-0.15)
    np.testing.assert_allclose(effect.others({0: 1.0}), [0.05, 0.0], atol=1e-7)  # label 3 is shown by no image
    assert effect.specificity({0: 1.0}) == pytest.approx(1 - 0.025 / 0.15)


def test_labels_of_one_target_count_together_by_their_shares() -> None:
    before = Measured(np.full((3, 4), 0.25, np.float32), {})
    after = before.probabilities.copy()
    after[0] = [0.05, 0.45, 0.25, 0.25]  # moves within the target
    after[1] = [0.25, 0.05, 0.45, 0.25]  # leaves it
    target = shown_target({0: 0.6, 1: 0.2, 3: 0.2}, np.asarray([0, 1, 2]))
    assert target == pytest.approx({0: 0.75, 1: 0.25})
    effect = effect_of(before, Measured(after, {}), np.asarray([0, 1, 2]), target)
    assert effect.target(target) == pytest.approx(0.75 * 0.0 + 0.25 * -0.2)
    assert effect.others(target).tolist() == [0.0]
    assert shown_target({3: 1.0}, np.asarray([0, 1, 2])) == {}


def test_the_norm_change_is_relative_to_the_typical_norm_and_of_the_worst_layer() -> None:
    a = np.asarray([[3.0, 4.0], [0.0, 5.0]], np.float32)
    before = Measured(np.zeros((2, 1), np.float32), {"a": a, "b": a})
    after = Measured(before.probabilities, {"a": a + np.asarray([[0, 0], [2, 0]], np.float32), "b": a})
    assert norm_change(before, after) == pytest.approx(2 / 5)


def test_the_control_edits_other_units_of_the_same_layers_the_same_way() -> None:
    sizes = {"a": 50, "b": 8}
    edits = [Edit("a", 1, Op.SCALE, 0.0), Edit("a", 1, Op.ADD, 2.0), Edit("a", 7, Op.SCALE, 3.0)]
    edits += [Edit("b", 0, Op.CLAMP, 1.0)]
    before = _measured(a=50, b=8)
    draws = random_edits(edits, sizes, before)
    assert len(draws) == 3
    assert draws == random_edits(edits, sizes, before)
    for draw in draws:
        assert [(e.layer, e.op, e.value) for e in draw] == [(e.layer, e.op, e.value) for e in edits]
        assert draw[0].unit == draw[1].unit
        assert {e.unit for e in draw if e.layer == "a"}.isdisjoint({1, 7})
        assert draw[3].unit != 0


def test_the_control_of_a_whole_layer_stays_in_the_layer() -> None:
    edits = [Edit("a", unit, Op.SCALE, 0.0) for unit in range(4)]
    for draw in random_edits(edits, {"a": 4}, _measured(a=4)):
        assert sorted(e.unit for e in draw) == [0, 1, 2, 3]


FEATURES = "a/dictionaries/d"


def test_features_are_judged_by_what_they_change_in_the_layer_that_they_are_on() -> None:
    edits = [Edit(FEATURES, 0, Op.SCALE, 2.0, reconstruct=True), Edit("b", 0, Op.SCALE, 2.0)]
    assert measured_layers(edits) == ["a", FEATURES, "b"]
    a, codes = np.asarray([[3.0, 4.0]], np.float32), np.asarray([[1.0]], np.float32)
    before = Measured(np.zeros((1, 1), np.float32), {"a": a, FEATURES: codes})
    after = Measured(before.probabilities, {"a": a + np.asarray([[0, 1]], np.float32), FEATURES: 9 * codes})
    assert norm_change(before, after) == pytest.approx(1 / 5)


def test_the_control_of_features_edits_live_ones_in_the_same_way() -> None:
    codes = np.zeros((3, 40), np.float32)
    codes[1, [2, 5, 9, 30]] = 1
    before = Measured(np.zeros((3, 1), np.float32), {FEATURES: codes})
    edits = [Edit(FEATURES, unit, Op.SCALE, 0.0, reconstruct=True) for unit in (2, 17)]
    for draw in random_edits(edits, {FEATURES: 40}, before):
        assert {edit.unit for edit in draw} <= {5, 9, 30}
        assert all(edit.reconstruct for edit in draw)


def _measured(**units: int) -> Measured:
    return Measured(np.zeros((1, 1), np.float32), {name: np.ones((1, n), np.float32) for name, n in units.items()})
