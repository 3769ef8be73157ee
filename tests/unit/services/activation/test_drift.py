"""Which requests are watched for label drift, and what is exported."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from miclip.atlas import Atlas
from miclip.atlas.drift import WINDOW
from services.activation.batching import RowOutput
from services.activation.drift import DriftWatch
from services.metrics import series

pytestmark = pytest.mark.metrics


def outputs(atlas: Atlas, count: int, layer: str = "mid") -> list[RowOutput]:
    values = torch.tensor(atlas.layer(layer).activations.astype("float32"))
    return [RowOutput(torch.zeros(8), {layer: values[i % len(values)]}) for i in range(count)]


def exported(model: str) -> float | None:
    return series.REGISTRY.get_sample_value("miclip_label_similarity", {"model": model})


def test_one_request_in_an_interval_is_taken_and_none_without_an_atlas(atlas: Atlas) -> None:
    now = [0.0]
    watch = DriftWatch("watched-0", 0.25, clock=lambda: now[0])
    assert watch.due() == ()
    watch.follow(atlas)
    taken = []
    for tenth in range(11):
        now[0] = tenth / 10
        taken.append(watch.due())
    assert taken.count(("mid",)) == 4
    assert taken[:4] == [("mid",), (), (), ("mid",)]


def test_the_similarity_is_exported_once_the_window_is_full(atlas: Atlas) -> None:
    watch = DriftWatch("watched-1", 0)
    watch.follow(atlas)
    for _ in range(WINDOW // 16 - 1):
        watch.observe(outputs(atlas, 100))
    assert exported("watched-1") is None, "16 images of a request are taken"
    watch.observe(outputs(atlas, 100))
    assert 0 < (exported("watched-1") or 0) <= 1


def test_rows_that_were_steered_or_of_another_layer_are_left_out(atlas: Atlas) -> None:
    watch = DriftWatch("watched-2", 0)
    watch.follow(atlas)
    for _ in range(40):
        watch.observe([RowOutput(torch.zeros(8), {}) for _ in range(16)])
        watch.observe(outputs(atlas, 16, layer="logits"))
    assert exported("watched-2") is None


def test_another_atlas_starts_anew_and_the_same_goes_on(atlas: Atlas, recipe: Any, tmp_path: Any) -> None:
    watch = DriftWatch("watched-3", 0)
    watch.follow(atlas)
    for _ in range(WINDOW // 16 - 1):
        watch.observe(outputs(atlas, 16))
    watch.follow(recipe(seed=3).open(tmp_path / "other"))
    watch.observe(outputs(atlas, 16))
    assert exported("watched-3") is None
