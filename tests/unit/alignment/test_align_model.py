"""Promises of a whole alignment: a real network, images and encoders, small enough to align in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.alignment import ActivationStore, AlignmentConfig, Cancelled, EncoderSettings, align_model
from miclip.atlas import LABEL_TENSORS, Atlas
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings
from tests.unit.alignment.colours import COLOURS, ColourClip, ColourProbe, colour_model

CONFIG = AlignmentConfig(encoder=EncoderSettings(steps=40, batch=64))


def align(root: Path, config: AlignmentConfig = CONFIG, **more: Any) -> str:
    return align_model(
        colour_model(), ColourClip(), ColourProbe(), config,  # type: ignore[arg-type]
        store=root / "store", atlas_root=root / "atlases", **more,
    )  # fmt: skip


def test_aligning_again_with_the_same_seed_gives_the_same_atlas(tmp_path: Path) -> None:
    first = align(tmp_path / "a")
    assert align(tmp_path / "b") == first
    assert align(tmp_path / "a") == first, "nor does it matter what the store already holds"
    assert align(tmp_path / "c", replace(CONFIG, encoder=replace(CONFIG.encoder, seed=1))) != first


def test_a_stopped_alignment_goes_on_to_the_same_atlas(tmp_path: Path) -> None:
    calls = 0

    def soon() -> bool:
        nonlocal calls
        calls += 1
        return calls > 5

    with pytest.raises(Cancelled):
        align(tmp_path / "a", cancelled=soon)
    assert align(tmp_path / "a") == align(tmp_path / "b")


def test_an_atlas_holds_what_its_labels_are_judged_by(tmp_path: Path) -> None:
    atlas = Atlas.open(tmp_path / "atlases", align(tmp_path))
    assert atlas.manifest.schema_version == 3
    for name in atlas.layer_names:
        layer = atlas.layer(name)
        assert all(getattr(layer, tensor) is not None for tensor in LABEL_TENSORS)
        assert layer.stability is not None and 0 <= layer.stability.min() <= layer.stability.max() <= 1
        assert layer.confidence is not None and 0 <= layer.confidence.min() <= layer.confidence.max() <= 1
        assert set(layer.entry.metrics) == {"final_loss"}
        promise = layer.entry.promise
        assert (promise is None) == (name == "logits")  # the units of the logits are those of their classes
        assert promise is None or 0 <= promise.low <= promise.precision <= 1
    verdict = atlas.manifest.verdict
    assert verdict is not None and verdict.labels == len(COLOURS) and verdict.predicted <= verdict.labels
    recorded = atlas.manifest.settings
    assert recorded["label_seeds"] == settings().label_seeds
    assert recorded["localize_temperature"] == settings().temperature


def test_the_logits_are_labelled_by_their_own_class(tmp_path: Path) -> None:
    searcher = AtlasSearcher(Atlas.open(tmp_path / "atlases", align(tmp_path)))
    found = searcher.describe("logits", range(5), searcher.labels)
    assert [unit.concepts[0].concept for unit in found] == list(COLOURS)
    assert all(unit.concepts[0].causal_score > 0 for unit in found)


def test_what_search_scores_is_what_the_alignment_judged(tmp_path: Path) -> None:
    atlas = Atlas.open(tmp_path / "atlases", align(tmp_path))
    searcher, layer = AtlasSearcher(atlas), atlas.layer("1")
    effects = np.stack([searcher.attribution_scores(text, "1") for text in searcher.labels.embeddings])
    np.testing.assert_allclose(layer.effect_mean, effects.mean(axis=0), atol=0.01 * np.abs(effects).max())
    np.testing.assert_allclose(layer.effect_std, effects.std(axis=0), atol=0.01 * np.abs(effects).max())


def test_attributions_at_other_points_are_kept_apart(tmp_path: Path) -> None:
    model, clip, probe = colour_model(), ColourClip(), ColourProbe()
    stores = [ActivationStore(tmp_path, model, clip, probe, ["1"], points) for points in (1, 4)]  # type: ignore[arg-type]
    assert stores[0].directory != stores[1].directory
    along = Atlas.open(tmp_path / "atlases", align(tmp_path, replace(CONFIG, points=4)))
    assert along.manifest.settings["attribution_points"] == 4
    assert align(tmp_path) != along.atlas_id
