"""The measures of label against activation are scikit-learn's, find what is planted, and drop to their null."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)

from miclip.evaluation.agreement import ACTIVE_SHARE, MEASURES, TESTED, agreement, sanity, summarise_agreement

CLASSES, VIEWS, UNITS = 8, 25, 16


def _planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit i fires for class i % 8."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), VIEWS)
    activations = generator.random((len(labels), UNITS)).astype(np.float32)
    truth = np.arange(UNITS) % CLASSES
    activations += (labels[:, None] == truth[None]) * 1.0
    return activations, labels, truth


def test_every_measure_equals_scikit_learns_ties_included() -> None:
    generator = np.random.default_rng(1)
    labels = np.tile(np.arange(4), 50)
    activations = generator.standard_normal((200, 6)).astype(np.float32)
    activations[:, 3:] = np.maximum(activations[:, 3:] - 1, 0)  # silent on most images
    found = agreement(activations, labels, 4)
    for unit in range(6):
        column = activations[:, unit]
        active = column >= np.sort(column)[-round(ACTIVE_SHARE * 200)]
        for label in range(4):
            shown = labels == label
            assert found["correlation"][label, unit] == pytest.approx(np.corrcoef(shown, column)[0, 1], abs=1e-6)
            assert found["auprc"][label, unit] == pytest.approx(average_precision_score(shown, column))
            assert found["f1"][label, unit] == pytest.approx(f1_score(shown, active))
            assert found["iou"][label, unit] == pytest.approx(jaccard_score(shown, active))
            assert found["precision"][label, unit] == pytest.approx(precision_score(shown, active))
            assert found["recall"][label, unit] == pytest.approx(recall_score(shown, active))
            cosine = shown @ column / (np.linalg.norm(shown) * np.linalg.norm(column))
            assert found["cosine"][label, unit] == pytest.approx(cosine, abs=1e-6)


def test_a_unit_that_never_moves_agrees_with_nothing() -> None:
    found = agreement(np.full((40, 1), 3, np.float32), np.tile(np.arange(4), 10), 4)
    assert (found["correlation"], found["f1"]) == (pytest.approx(np.zeros((4, 1))), pytest.approx(np.zeros((4, 1))))
    assert found["auprc"] == pytest.approx(np.full((4, 1), 0.25))  # the share of the class


def test_planted_labels_agree_and_drop_to_the_null_when_shuffled() -> None:
    activations, labels, truth = _planted()
    measured, all_units = agreement(activations, labels, CLASSES), np.ones(UNITS, bool)
    right = summarise_agreement(measured, [(truth, all_units)])
    wrong = summarise_agreement(measured, [((truth + 3) % CLASSES, all_units)])
    assert right is not None
    assert wrong is not None
    assert right.auprc.value > 0.95
    for name in MEASURES:
        figure = getattr(right, name)
        assert figure.low <= figure.value <= figure.high
        if name == "cosine":  # activations that are never 0 have a cosine with everything
            assert figure.null < getattr(right, name).value - 0.1
            continue
        assert figure.null < 0.5 * figure.value
        assert getattr(wrong, name).value < 0.3 * figure.value


def test_permuted_activations_drop_every_measure_to_its_null() -> None:
    activations, labels, truth = _planted()
    permuted = activations[np.random.default_rng(2).permutation(len(labels))]
    found = summarise_agreement(agreement(permuted, labels, CLASSES), [(truth, np.ones(UNITS, bool))])
    assert found is not None
    assert abs(found.correlation.value) < 0.1
    assert found.auprc.value < 0.25  # a class is an eighth
    assert found.f1.value < 0.1


def test_a_unit_counts_in_the_seeds_that_label_it() -> None:
    measured = dict.fromkeys(MEASURES, np.array([[0.2, 0.4], [0.8, 0.6]]))
    seeds = [(np.array([0, 0]), np.array([True, False])), (np.array([1, 0]), np.array([True, False]))]
    found = summarise_agreement(measured, seeds)
    assert found is not None
    assert found.f1.value == pytest.approx(0.5)
    assert summarise_agreement(measured, [(np.array([0, 0]), np.zeros(2, bool))]) is None


def test_the_measures_notice_labels_that_are_missing_or_too_many_and_precision_and_recall_do_not() -> None:
    activations, labels, truth = _planted()
    even = slice(CLASSES, None)  # 24 views: half of them is a whole number
    found = sanity(activations[even], labels[even], truth)
    assert set(found) == set(TESTED)
    for name in ("correlation", "auprc"):
        assert (found[name].missing, found[name].extra) == (100.0, 100.0), name
    assert found["cosine"].missing == 100.0
    assert found["recall"].missing < 50, "fewer labels to find are found as well"
    assert found["precision"].extra < 50, "what is found is labelled as well as before"


def test_a_class_without_images_agrees_with_nothing() -> None:
    activations, labels, _ = _planted()
    found = agreement(activations, labels, CLASSES + 2)
    for name in MEASURES:
        assert np.all(found[name][CLASSES:] == 0), name
