"""Whether CLIP's images and a model's labels agree beyond chance."""

from __future__ import annotations

import numpy as np
import pytest

from miclip.alignment.agreement import agreement, known

LABELS, DIM = 40, 24


def world(seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images by what they show, and the labels' texts."""
    rng = np.random.default_rng(seed)
    texts = rng.standard_normal((LABELS, DIM)).astype(np.float32)
    shown = rng.integers(LABELS, size=300)
    images = texts[shown] + noise * rng.standard_normal((300, DIM)) + 2
    return images.astype(np.float32), shown, texts


def test_a_model_that_sees_what_clip_sees_agrees() -> None:
    images, shown, texts = world()
    share, chance, p_value = agreement(images, shown, texts)
    assert share > 0.9 and chance == pytest.approx(1 / LABELS) and p_value < 0.001
    assert known(p_value, LABELS, LABELS)


def test_a_model_whose_labels_are_dealt_at_random_agrees_by_chance_alone() -> None:
    """It is consistent: what it calls a dog are always the cats."""
    images, shown, texts = world()
    found = []
    for seed in range(40):
        dealt = np.random.default_rng(seed).permutation(LABELS)[shown]
        p_value = agreement(images, dealt, texts)[2]
        found.append(known(p_value, LABELS, LABELS))
    assert np.mean(found) <= 0.05


def test_one_label_for_everything_agrees_with_nothing() -> None:
    images, shown, texts = world()
    assert agreement(images, np.zeros_like(shown), texts) == (0.0, 1.0, 1.0)


def test_of_few_labels_only_the_best_dealing_will_do() -> None:
    images, shown, texts = world(noise=0.1)
    two = shown % 2
    prototypes = texts[:2] * 3
    images = (prototypes[two] + 0.1 * np.random.default_rng(1).standard_normal(images.shape)).astype(np.float32)
    right, wrong = agreement(images, two, texts[:2])[2], agreement(images, 1 - two, texts[:2])[2]
    assert known(right, 2, 2) and not known(wrong, 2, 2)
    assert known(0.005, 1000, 400) and not known(0.02, 1000, 400)
