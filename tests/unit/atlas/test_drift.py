"""Label drift: what it takes for live images to look like the probe images, and not to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from miclip.atlas import Atlas
from miclip.atlas.drift import DriftMonitor


def rows(atlas: Atlas, layer: str = "mid") -> Any:
    return np.asarray(atlas.layer(layer).activations, np.float32)


@pytest.fixture
def monitor(atlas: Atlas) -> DriftMonitor:
    return DriftMonitor(atlas.layer("mid"), window=120)


def test_images_like_the_probe_images_are_similar(atlas: Atlas, monitor: DriftMonitor) -> None:
    monitor.add(rows(atlas)[::2])
    similarity = monitor.similarity()
    assert similarity is not None
    assert 0.95 < similarity <= 1


def test_the_whole_probe_set_is_as_similar_as_can_be(atlas: Atlas) -> None:
    monitor = DriftMonitor(atlas.layer("mid"), window=240)
    monitor.add(rows(atlas))
    assert monitor.similarity() == 1
    assert monitor.expected == 1
    assert DriftMonitor(atlas.layer("mid"), window=40).expected < 1, "a small part never looks like the whole"


def test_images_of_one_concept_are_less_similar_the_fewer_units_they_excite(
    atlas: Atlas, monitor: DriftMonitor
) -> None:
    monitor.add(np.repeat(rows(atlas)[:1], 120, axis=0))
    one = monitor.similarity()
    assert one is not None
    assert one < 0.35, "ten of forty units"
    monitor.add(rows(atlas)[np.arange(120) % 4])
    four = monitor.similarity()
    assert four is not None
    assert one < four < 0.95


def test_the_formula_is_the_one_that_is_written(atlas: Atlas, monitor: DriftMonitor) -> None:
    layer, live = atlas.layer("mid"), rows(atlas)[:120] ** 2
    monitor.add(live)

    def shares(values: Any) -> Any:
        scores = (values - layer.mean) / layer.std
        return np.bincount(np.argsort(-scores, axis=1)[:, :10].ravel(), minlength=40) / (10 * len(values))

    overlap = np.minimum(shares(rows(atlas)), shares(live)).sum()
    assert monitor.similarity() == pytest.approx(min(1, overlap / monitor.expected))


def test_nothing_is_said_before_the_window_is_full_and_old_images_leave_it(atlas: Atlas, monitor: DriftMonitor) -> None:
    monitor.add(np.repeat(rows(atlas)[:1], 119, axis=0))
    assert monitor.similarity() is None
    for part in np.array_split(rows(atlas)[:120], 7):
        monitor.add(part)
    assert monitor.similarity() == pytest.approx(_fresh(atlas, rows(atlas)[:120]))


def _fresh(atlas: Atlas, live: Any) -> float | None:
    monitor = DriftMonitor(atlas.layer("mid"), window=120)
    monitor.add(live)
    return monitor.similarity()


def test_units_that_never_change_count_for_nothing(recipe: Any, tmp_path: Any) -> None:
    made = recipe(units=8)
    dead = made.tensors["mid"]
    for name in ("activations", "std", "mean"):
        dead[name][..., 3:] = 0
    monitor = DriftMonitor(made.open(tmp_path).layer("mid"), window=10)
    monitor.add(np.full((10, 8), 9.0))
    assert monitor.similarity() == pytest.approx(1.0), "three units live, and all are excited by everything"
