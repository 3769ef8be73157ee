"""Hidden classes leave no trace in the alignment; costs are what was done."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from miclip.catalogue import Catalogue
from miclip.demo.assets import DEMO
from miclip.demo.concepts import CLASSES, TRAIN_STYLES
from miclip.demo.probe import StyleViews
from miclip.evaluation.cost import measure
from miclip.evaluation.unseen import Subset, hidden_classes, without


def test_hidden_classes_are_spread_and_always_the_same() -> None:
    assert hidden_classes(128, 4) == (16, 48, 80, 112)
    assert len(set(hidden_classes(128, 16))) == 16
    assert hidden_classes(128, 0) == ()


def test_a_subset_has_the_rows_that_stay_and_a_hash_of_its_own() -> None:
    probe = StyleViews("one", TRAIN_STYLES[:1], 1)
    rows = np.array([3, 7, 100])
    part = Subset(probe, rows)
    assert part.names == tuple(probe.names[row] for row in rows)
    assert all(torch.equal(a, probe.load(int(row), int(row) + 1)[0])
               for a, row in zip(part.load(0, 3), rows, strict=True))  # fmt: skip
    assert len({probe.sha256, part.sha256, Subset(probe, rows[:2]).sha256}) == 3


def test_nothing_that_is_predicted_as_a_hidden_class_and_no_hidden_name_stays() -> None:
    model, probe = Catalogue([DEMO]).load_target("emoji-resnet", "cpu"), StyleViews("one", TRAIN_STYLES[:1], 1)
    hidden = hidden_classes(128, 16)
    blind, kept = without(model, probe, hidden)
    images = torch.stack([model.preprocess(image) for image in kept.load(0, len(kept.names))])
    predicted = torch.cat([model.forward(part).logits.argmax(dim=1) for part in images.split(64)])
    assert not set(predicted.tolist()) & set(hidden)
    assert 90 < len(kept.names) < 128
    assert {CLASSES[label] for label in hidden}.isdisjoint(blind.labels)
    assert model.labels == CLASSES  # the model itself keeps its names
    assert len(set(blind.labels)) == len(blind.labels)


def test_operations_of_a_matrix_product_are_counted() -> None:
    left, right = torch.randn(30, 40), torch.randn(40, 50)
    value, cost = measure(lambda: left @ right)
    assert torch.equal(value, left @ right)
    assert cost.gflop * 1e9 == 2 * 30 * 40 * 50
    assert measure(lambda: None, flops=5e9)[1].gflop == pytest.approx(5.0)


def test_seconds_and_peak_memory_are_those_of_the_step() -> None:
    def step() -> None:
        held = np.ones(100_000_000, np.uint8)
        time.sleep(0.1)
        del held

    for _ in range(2):  # the second finds nothing ready that the first left
        _, cost = measure(step)
        assert 0.1 <= cost.seconds < 5
        assert 60 < cost.peak_mb < 400


def test_memory_that_an_earlier_step_freed_does_not_hide_a_steps_own() -> None:
    def step() -> None:
        held = [np.ones(50_000, np.uint8) for _ in range(1500)]  # below the size that is mapped by itself
        time.sleep(0.05)
        del held

    first, second = (measure(step)[1].peak_mb for _ in range(2))
    assert first > 40
    assert second > 0.5 * first
