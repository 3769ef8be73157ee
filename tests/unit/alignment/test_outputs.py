"""Promises of what an atlas says of outputs: their formulas, the bound on passes, and outputs that no image shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from miclip.alignment import ActivationStore
from miclip.alignment.outputs import OutputStore, mean_by_label, output_prototypes, wanted_passes
from miclip.evaluation.unseen import Subset
from miclip.settings import settings
from tests.unit.alignment.test_align_model import COLOURS, ColourClip, ColourProbe, colour_model


def test_a_prototype_is_the_mean_image_by_how_probable_the_output_is() -> None:
    generator = np.random.default_rng(0)
    logits, images = 3 * generator.standard_normal((50, 200)), generator.standard_normal((50, 6))
    likely = softmax(logits, axis=1)
    expected = (likely / likely.sum(axis=0)).T @ (images - images.mean(axis=0))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(output_prototypes(logits, images), expected, atol=1e-5)


def test_an_output_that_is_never_probable_still_has_a_prototype() -> None:
    logits = np.array([[900.0, 0, -900], [800.0, 0, -700]])
    assert np.isfinite(output_prototypes(logits, np.eye(2))).all()
    np.testing.assert_allclose(output_prototypes(logits, np.eye(2))[2], np.array([-1, 1]) / 2**0.5, atol=1e-5)


def test_passes_go_to_outputs_that_few_rows_are_predicted_as_where_their_margin_is_greatest() -> None:
    logits = np.eye(5)[[0, 0, 0, 1, 2]] + 0.1 * np.random.default_rng(1).standard_normal((5, 5))
    wanted = wanted_passes(logits, 3, 100)
    assert wanted.outputs.tolist() == [1, 2, 3, 4]
    margins = logits - logits.mean(axis=1, keepdims=True)
    for output, rows in zip(wanted.outputs, wanted.rows, strict=True):
        assert rows.tolist() == np.argsort(-margins[:, output])[:3].tolist()


@pytest.mark.parametrize(("passes", "shape"), [(1000, (8, 30)), (100, (8, 12)), (17, (8, 2)), (8, (8, 1)), (3, (3, 1))])
def test_passes_are_bounded(passes: int, shape: tuple[int, int]) -> None:
    logits = np.random.default_rng(2).standard_normal((40, 8))
    assert wanted_passes(logits, 30, passes).rows.shape == shape


def test_without_passes_no_output_is_attributed() -> None:
    assert wanted_passes(np.eye(4), 8, 0).outputs.size == 0


def test_an_output_that_no_image_is_predicted_as_has_effects(tmp_path: Path) -> None:
    model, probe = colour_model(), ColourProbe()
    seen = Subset(probe, np.flatnonzero(np.arange(120) % 60 % 5 != 4))  # no white squares
    store = ActivationStore(tmp_path, model, ColourClip(), seen, ["1"])  # type: ignore[arg-type]
    store.fill()
    white = list(COLOURS).index("white")
    record = store.read()
    means = mean_by_label(record.attributions["1"], record.logits.argmax(axis=1), len(COLOURS))
    assert not means[white].any()
    outputs = OutputStore(store, model, seen, ["1"])
    outputs.fill()
    found = outputs.effects("1")
    logits = store.read().logits
    margins = logits[:, white] - logits.mean(axis=1)
    rows = np.argsort(-margins, kind="stable")[: settings().output_images]
    images = [model.preprocess(seen.load(row, row + 1)[0]) for row in rows.tolist()]
    direct = model.attribute(torch.stack(images), ["1"], classes=torch.full((len(rows),), white))[2]["1"].mean(dim=0)
    np.testing.assert_allclose(found[white], direct.numpy(), atol=1e-5)
    for colour in range(white):
        np.testing.assert_allclose(found[colour], means[colour])
