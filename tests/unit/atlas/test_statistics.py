"""Statistics of units, and of random directions."""

from __future__ import annotations

import numpy as np

from miclip.atlas import (
    compute_statistics,
    null_statistics,
)


def test_statistics_are_those_of_the_matrix() -> None:
    rng = np.random.default_rng(0)
    activations = np.maximum(rng.standard_normal((90, 300)), 0).astype(np.float16)
    found = compute_statistics(activations)
    exact = activations.astype(np.float64)
    np.testing.assert_allclose(found["mean"], exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["std"], exact.std(0), rtol=1e-6)
    np.testing.assert_array_equal(found["maximum"], activations.max(0))
    np.testing.assert_allclose(found["fraction_nonzero"], (exact > 0).mean(0), rtol=1e-6)
    assert (found["histogram_counts"].sum(1) == 90).all()
    np.testing.assert_array_equal(found["top_values"], -np.sort(-exact, axis=0)[:16].T)
    picked = np.take_along_axis(exact, found["top_images"].T, axis=0).T
    np.testing.assert_array_equal(picked, found["top_values"])


def test_top_images_are_distinct_images() -> None:
    rng = np.random.default_rng(1)
    activations, images = rng.standard_normal((60, 5)), rng.permutation(np.arange(60) % 12)
    found = compute_statistics(activations, images)
    for unit in range(5):
        rows = found["top_images"][unit]
        assert (rows[12:] == -1).all() and (found["top_values"][unit, 12:] == 0).all()
        assert sorted(images[rows[:12]]) == list(range(12))
        best = [activations[images == image, unit].max() for image in images[rows[:12]]]
        np.testing.assert_allclose(found["top_values"][unit, :12], best, rtol=1e-6)
        assert (np.diff(best) <= 0).all()


def test_the_null_is_the_distribution_of_random_directions() -> None:
    rng = np.random.default_rng(2)
    encoder, texts = rng.standard_normal((32, 20)), rng.standard_normal((9, 32)) + 1
    found = null_statistics(encoder, texts, 2000, seed=3)
    directions = rng.standard_normal((4000, 20)) @ encoder.T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centred = texts - texts.mean(0)
    best = (directions @ (centred / np.linalg.norm(centred, axis=1, keepdims=True)).T).max(1)
    np.testing.assert_allclose(found["null_quantiles"][10:91], np.percentile(best, np.arange(10, 91)), atol=0.02)
    np.testing.assert_allclose([found["null_mean"], found["null_std"]], [best.mean(), best.std()], atol=0.01)
    again = null_statistics(encoder, texts, 2000, seed=3)
    np.testing.assert_array_equal(again["null_quantiles"], found["null_quantiles"])
