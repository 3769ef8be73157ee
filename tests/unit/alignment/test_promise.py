"""Promises: when a label is right, how sure it is, and from which confidence on labels are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from miclip.alignment.promise import Part, calibrate, confidences

UNITS = 200


def part(means: np.ndarray, classes: list[int], labels: int) -> Part:
    return Part(np.array(classes), np.asarray(means, np.float32), labels)


def test_a_part_holds_the_mean_attribution_of_every_class_that_it_shows() -> None:
    attributions = np.array([[1, 0], [3, 2], [5, 5]], np.float32)
    made = Part.of(attributions, np.array([7, 2, 7]), 10)
    np.testing.assert_array_equal(made.classes, [2, 7])
    np.testing.assert_array_equal(made.means, [[3, 2], [3, 2.5]])


def test_a_label_is_right_among_the_classes_that_the_unit_drives_most() -> None:
    means = np.arange(20, 0, -1, dtype=np.float32)[:, None].repeat(7, axis=1)  # class 0 most
    shown = part(means, list(range(20)), 20)
    best = np.array([0, 4, 5, 19, 3, 1, 2])
    np.testing.assert_array_equal(shown.ahead(best), [0, 4, 5, 19, 3, 1, 2])
    np.testing.assert_array_equal(shown.right(best), [True, True, False, False, True, True, True])


def test_a_part_that_shows_few_classes_is_as_strict_as_all_would_be() -> None:
    means = np.arange(10, 0, -1, dtype=np.float32)[:, None].repeat(2, axis=1)
    few = part(means, list(range(10)), 100)  # five of a hundred are less than one of ten
    np.testing.assert_array_equal(few.right(np.array([0, 1])), [True, False])


def test_a_class_that_the_unit_lowers_or_that_is_not_shown_is_never_right() -> None:
    shown = part(np.array([[-1.0, 2.0], [-2.0, 1.0]]), [3, 5], 8)
    np.testing.assert_array_equal(shown.right(np.array([3, 4])), [False, False])
    np.testing.assert_array_equal(shown.shows(np.array([3, 4])), [True, False])


def test_confidence_counts_the_parts_that_try_a_label() -> None:
    holds, fails = part([[2.0], [1.0]], [0, 1], 40), part([[1.0], [2.0]], [0, 1], 40)
    sure = [
        float(confidences(np.array([0]), np.zeros(1, np.float32), np.ones(1, np.float32), parts)[0])
        for parts in ([holds] * 4, [holds, holds, fails, fails], [fails] * 4)
    ]
    np.testing.assert_allclose(np.array(sure) * 1.02, [8.5 / 9, 4.5 / 9, 0.5 / 9], rtol=1e-5)


@pytest.mark.parametrize(("label", "effect"), [(0, 0.0), (0, -1.0), (2, 1.0)])
def test_labels_that_cannot_be_tried_have_no_confidence(label: int, effect: float) -> None:
    parts = [part([[2.0], [1.0]], [0, 1], 40)] * 4
    (sure,) = confidences(np.array([label]), np.zeros(1, np.float32), np.array([effect], np.float32), parts)
    assert sure == 0


def trials(right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that fall from unit to unit, and the same outcome by four encoders."""
    sure = np.linspace(0.9, 0.1, right.shape[-1], dtype=np.float32)[None].repeat(4, axis=0)
    outcome = np.broadcast_to(right, (4, right.shape[-1]))
    return sure, outcome, np.ones_like(outcome)


def test_labels_are_kept_as_far_as_the_lower_bound_reaches() -> None:
    found = calibrate(*trials(np.arange(UNITS) < 120), wanted=0.85)
    kept = round(UNITS * (0.9 - found.confidence) / 0.8 * (UNITS - 1) / UNITS) + 1
    assert found.reached and found.low >= 0.85
    share, z = 120 / kept, norm.ppf(0.95)
    wilson = (share + z * z / (2 * kept) - z * np.sqrt(share * (1 - share) / kept + z * z / (4 * kept * kept))) / (
        1 + z * z / kept
    )
    assert found.precision == pytest.approx(share) and found.low == pytest.approx(wilson, abs=1e-4)
    assert found.precision > found.low


def test_four_encoders_do_not_make_one_unit_four() -> None:
    few = np.ones(12, bool)
    assert not calibrate(*trials(few), wanted=0.85).reached  # 12 of 12 make 82 % sure, 48 of 48 would make 95
    assert calibrate(*trials(np.ones(20, bool)), wanted=0.85).reached


def test_where_nothing_reaches_the_promise_nothing_is_kept() -> None:
    found = calibrate(*trials(np.arange(UNITS) % 2 == 0), wanted=0.85)
    assert not found.reached and found.low < 0.85


def test_labels_without_confidence_or_a_judge_do_not_count() -> None:
    sure, right, shown = trials(np.arange(UNITS) >= 100)
    sure = np.where(np.arange(UNITS) < 100, 0, sure)
    assert calibrate(sure, right, shown, 0.85).precision == 1
    nobody = calibrate(np.zeros_like(sure), right, shown, 0.85)
    assert not nobody.reached and nobody.precision == 0


@given(st.floats(0.3, 0.99), st.integers(0, 1000))
def test_a_promise_is_kept_by_labels_of_the_same_kind(true_share: float, seed: int) -> None:
    """Labels that are right at random: what is promised lies above the truth in few draws, and never far."""
    right = np.random.default_rng(seed).random(400) < true_share
    found = calibrate(*trials(right), wanted=0.85)
    assert not found.reached or true_share > 0.7
