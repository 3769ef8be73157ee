"""Promises of labels: what ranks them, what they carry, when they abstain, and how the threshold is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from miclip.alignment.encoder import EncoderSettings, NeuronEncoder, train_encoder
from miclip.alignment.labels import (
    FOLDS,
    Judges,
    LayerProbe,
    driven_classes,
    fold_images,
    judge_labels,
    judging_rows,
    label_units,
)
from miclip.atlas import Atlas, contrast, null_contrast
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import Vocabulary
from miclip.settings import settings


@pytest.fixture
def searcher(recipe: Any, tmp_path: Any) -> AtlasSearcher:
    return AtlasSearcher(recipe().judge().open(tmp_path))


def words(count: int, seed: int = 5) -> Vocabulary:
    vectors = np.random.default_rng(seed).standard_normal((count, 32)) + 1
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Vocabulary("", tuple(f"word {n}" for n in range(count)), unit.astype(np.float32))


def effects_of(searcher: AtlasSearcher, vocabulary: Vocabulary) -> Any:
    return np.stack([searcher.attribution_scores(text, "mid") for text in vocabulary.embeddings])


def test_the_nearest_concepts_are_ranking_their_causal_scores(searcher: AtlasSearcher) -> None:
    vocabulary = words(300)
    effects, texts = effects_of(searcher, vocabulary), searcher.centre(vocabulary.embeddings)
    cosines = searcher.atlas.layer("mid").embedding() @ texts.T
    for found in searcher.describe("mid", range(40), vocabulary, 40):
        shortlist = np.argsort(-cosines[found.unit])[: settings().describe_shortlist]
        expected = shortlist[np.argsort(-effects[shortlist, found.unit])][:40]
        assert [concept.index for concept in found.concepts[: len(expected)]] == list(expected)
        behind = [concept.score for concept in found.concepts[len(expected) :]]
        assert behind == sorted(behind, reverse=True)
        for concept in found.concepts:
            assert concept.causal_score == pytest.approx(effects[concept.index, found.unit], abs=1e-5)
            assert concept.score == pytest.approx(cosines[found.unit, concept.index], abs=1e-6)
        first, second = found.concepts[:2]
        assert found.margin == pytest.approx(first.causal_score - second.causal_score, abs=1e-6)
        assert found.ranking == "causal_score"


def test_contrast_and_percentile_are_those_of_the_label(searcher: AtlasSearcher) -> None:
    layer, vocabulary = searcher.atlas.layer("mid"), words(50)
    assert layer.effect_mean is not None and layer.effect_std is not None and layer.null_contrast is not None
    for found in searcher.describe("mid", range(40), vocabulary):
        expected = (found.concepts[0].causal_score - layer.effect_mean[found.unit]) / layer.effect_std[found.unit]
        assert found.contrast == pytest.approx(expected, rel=1e-4)
        percentile = np.interp(expected, layer.null_contrast, np.arange(101))
        assert found.null_percentile == pytest.approx(percentile, abs=0.01)
        assert found.stability == pytest.approx(found.unit / 39)
        assert found.abstained == (found.null_percentile < settings().abstain_percentile)


def test_a_label_depends_neither_on_the_other_units_nor_on_how_many_concepts_are_asked_for(
    searcher: AtlasSearcher,
) -> None:
    vocabulary = words(2000)
    together = searcher.describe("mid", range(40), vocabulary, 60)
    for unit in (0, 17, 39):
        (alone,) = AtlasSearcher(searcher.atlas).describe("mid", [unit], vocabulary, 60)
        assert alone == together[unit]
        (short,) = searcher.describe("mid", [unit], vocabulary, 1)
        lists = ("concepts", "active_for", "suppresses")
        assert short == replace(together[unit], **{name: getattr(together[unit], name)[:1] for name in lists})


def test_a_label_below_the_calibrated_contrast_abstains(recipe: Any, tmp_path: Any) -> None:
    free = AtlasSearcher(recipe().judge().open(tmp_path / "a"))
    contrasts = {found.unit: found.contrast for found in free.describe("mid", range(40), free.labels)}
    middle = float(np.median(list(contrasts.values())))
    bound = AtlasSearcher(recipe().judge(middle).open(tmp_path / "b"))
    for found in bound.describe("mid", range(40), bound.labels):
        assert found.abstained == (contrasts[found.unit] < middle)


def test_a_threshold_below_the_null_changes_nothing(recipe: Any, tmp_path: Any) -> None:
    made = recipe().judge(-1e9)
    made.tensors["mid"]["attributions"][:, 0] = np.random.default_rng(0).standard_normal(240)  # means nothing
    searcher = AtlasSearcher(made.open(tmp_path))
    assert searcher.describe("mid", [0], searcher.labels)[0].abstained


def test_an_asked_for_embedding_ranks_by_the_cosine_alone(searcher: AtlasSearcher) -> None:
    for found in searcher.describe("mid", range(40), words(300), 40, "causal"):
        scores = [concept.score for concept in found.concepts]
        assert scores == sorted(scores, reverse=True)
        assert found.ranking == "cosine"
        assert found.margin == pytest.approx(scores[0] - scores[1], abs=1e-6)
        assert all(np.isfinite(concept.causal_score) for concept in found.concepts)


def test_an_atlas_that_cannot_judge_labels_says_so(atlas: Atlas) -> None:
    searcher = AtlasSearcher(atlas)
    for found in searcher.describe("mid", range(40), searcher.labels):
        assert (found.ranking, found.contrast, found.stability) == ("cosine", None, None)
        assert found.concepts[0].causal_score > 0


def test_a_unit_without_influence_abstains(recipe: Any, tmp_path: Any) -> None:
    made = recipe()
    made.tensors["mid"]["attributions"][:, 3] = 0
    searcher = AtlasSearcher(made.judge().open(tmp_path))
    (found,) = searcher.describe("mid", [3], searcher.labels)
    assert found.abstained and found.contrast == 0


def test_the_null_is_that_of_random_mixtures_of_units() -> None:
    effects = np.random.default_rng(1).standard_normal((30, 12)) * np.arange(1, 13)
    alike = (effects - effects.mean(0)) / effects.std(0)
    mixed = alike @ np.random.default_rng(2).standard_normal((12, 20_000))
    best = (mixed.max(0) - mixed.mean(0)) / mixed.std(0)
    np.testing.assert_allclose(null_contrast(effects, 20_000)[[5, 50, 95]], np.percentile(best, [5, 50, 95]), atol=0.03)


def test_contrast_of_a_unit_without_influence_is_zero() -> None:
    np.testing.assert_allclose(contrast(np.array([3.0, 1.0]), np.array([1.0, 1.0]), np.array([0.5, 0.0])), [4, 0])


def test_every_fold_has_images_of_every_class_and_no_image_is_in_two() -> None:
    sources = np.arange(480) % 160  # three views
    predicted = (np.arange(160) % 8)[sources]
    folds = fold_images(predicted, sources, 0)
    assert folds.shape == (160,)
    for fold in range(FOLDS):
        np.testing.assert_array_equal(np.bincount(predicted[:160][folds == fold], minlength=8), [160 // 8 // FOLDS] * 8)


CLASSES, UNITS, DIM = 8, 24, 16


@pytest.fixture(scope="module")
def planted() -> LayerProbe:
    """Unit i is driven by class i % 8 and carries its logit; three views of 160 images."""
    rng = np.random.default_rng(0)
    sources = np.arange(480) % 160
    predicted = (np.arange(160) % CLASSES)[sources].astype(np.int64)
    texts = rng.standard_normal((CLASSES, DIM)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    images = texts[predicted] + 0.1 * rng.standard_normal((480, DIM)).astype(np.float32)
    driven = (np.arange(UNITS) % CLASSES)[None] == predicted[:, None]
    activations = (2 * driven + 0.3 * rng.standard_normal(driven.shape)).astype(np.float32)
    attributions = (activations * (driven + 0.1 * rng.standard_normal(driven.shape))).astype(np.float32)
    kept = np.arange(480) < 320
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    logits = (10 * np.eye(CLASSES)[predicted]).astype(np.float32)
    return LayerProbe("causal", activations, attributions, images, predicted, sources, kept, logits, texts)


def judges(probe: LayerProbe) -> Judges:
    """The same images again: what a layer does in other colours is the matter of the alignment's own tests."""
    rows = judging_rows(probe.sources)
    return Judges(probe.attributions[rows], probe.predicted[rows], probe.sources[rows])


def train(probe: LayerProbe, number: int) -> NeuronEncoder:
    chosen = EncoderSettings(steps=60, seed=number)
    return train_encoder(
        probe.activations, probe.predicted, probe.texts, np.asarray(probe.images), probe.sources, chosen
    )


def test_planted_labels_are_found_stable_and_right(planted: LayerProbe) -> None:
    np.testing.assert_array_equal(label_units(planted, train(planted, 0)).best, np.arange(UNITS) % CLASSES)
    np.testing.assert_array_equal(driven_classes(planted)[:, 0], np.arange(UNITS) % CLASSES)
    tensors, promise = judge_labels(planted, judges(planted), train, 0)
    np.testing.assert_array_equal(tensors["stability"], 1)
    assert tensors["confidence"].min() > 0.9
    assert promise is not None and promise.reached and promise.precision == promise.coverage == 1
    assert settings().label_precision <= promise.low < 1


def test_labels_of_units_without_meaning_are_not_promised(planted: LayerProbe) -> None:
    for seed in range(3, 7):
        noise = np.random.default_rng(seed).standard_normal(planted.attributions.shape).astype(np.float32)
        meaningless = replace(planted, attributions=noise)
        tensors, promise = judge_labels(meaningless, judges(meaningless), train, 0)
        assert tensors["stability"].mean() < 0.8
        assert promise is not None and not promise.reached and promise.coverage == 0


def test_labels_that_hold_on_what_made_them_alone_are_not_promised(planted: LayerProbe) -> None:
    """In other colours the units drive other classes."""
    known = judges(planted)
    elsewhere = replace(known, attributions=np.roll(known.attributions, 3, axis=1))
    _, promise = judge_labels(planted, elsewhere, train, 0)
    assert promise is not None and not promise.reached and promise.low < 0.6


def test_the_images_that_judge_are_kept_from_the_encoder_that_is_judged(planted: LayerProbe) -> None:
    seen: list[LayerProbe] = []

    def watch(probe: LayerProbe, number: int) -> NeuronEncoder:
        seen.append(probe)
        return train(probe, number)

    judge_labels(planted, judges(planted), watch, 0)
    whole, *further = seen
    assert len(further) == settings().label_seeds - 1
    left_out = [set(whole.sources) - set(probe.sources) for probe in further]
    assert all(len(images) == 160 // FOLDS for images in left_out)
    assert not set.intersection(*left_out)
    assert all(len(probe.sources) == 3 * len(set(probe.sources)) for probe in further)


def test_one_encoder_leaves_labels_unjudged(planted: LayerProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICLIP_LABEL_SEEDS", "1")
    settings.cache_clear()
    try:
        tensors, promise = judge_labels(planted, judges(planted), train, 0)
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert "stability" not in tensors and promise is None
