"""Promises of the evidence of a localisation: it equals its formula, and tells what is shown from what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from miclip.atlas import Atlas
from miclip.retrieval.attribution import AttributionStore, gathering
from miclip.retrieval.evidence import judge_evidence, null_relevance
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings


def relevance(atlas: Atlas, texts: Any) -> Any:
    """s_j(c) of the default mix, in double precision: float64 [Q, N]."""

    def unit(vectors: Any) -> Any:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    images, mean = atlas.image_embeddings.astype(np.float64), atlas.label_embeddings.astype(np.float64).mean(0)
    y = unit(atlas.label_embeddings.astype(np.float64) - mean)[atlas.predicted]
    return unit(np.asarray(texts, np.float64) - mean) @ ((unit(images - images.mean(0)) + y) / 2).T


def test_evidence_equals_its_formula(atlas: Atlas) -> None:
    searcher, tau = AtlasSearcher(atlas), settings().temperature
    scores = relevance(atlas, atlas.label_embeddings)
    own = atlas.predicted[None, :] == np.arange(len(scores))[:, None]
    left = softmax(np.where(own, -np.inf, scores) / tau, axis=1)
    null = (left * scores).sum(axis=1)
    weights = softmax(scores / tau, axis=1)
    for row, found in enumerate(searcher.localize(atlas.label_embeddings, ["mid"], 3)):
        evidence = found.evidence
        assert evidence is not None
        expected = float(weights[row] @ scores[row])
        assert evidence.relevance == pytest.approx(expected, abs=1e-4)
        assert evidence.null_percentile == pytest.approx(100 * np.mean(null < expected), abs=1e-6)
        assert evidence.doubtful == (evidence.null_percentile < settings().doubt_percentile)
        shares = np.bincount(atlas.predicted, weights[row], len(scores))
        for label in evidence.labels:
            assert label.share == pytest.approx(shares[atlas.manifest.labels.index(label.label)], abs=1e-4)
        assert [label.share for label in evidence.labels] == sorted((x.share for x in evidence.labels), reverse=True)


def planted(shown: int, hidden: int, seed: int = 0) -> tuple[AttributionStore, Any]:
    """A store whose rows show ``shown`` concepts, and queries for these and for ``hidden`` others."""
    generator = np.random.default_rng(seed)
    concepts = generator.standard_normal((shown + hidden, 64))
    concepts /= np.linalg.norm(concepts, axis=1, keepdims=True)
    predicted = np.repeat(np.arange(shown), 20)
    rows = concepts[predicted] + 0.05 * generator.standard_normal((len(predicted), 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return AttributionStore(rows, np.ones((len(rows), 3), np.float32), predicted), concepts.astype(np.float32)


def test_what_no_row_shows_is_no_more_relevant_than_the_null_and_what_is_shown_is() -> None:
    shown, hidden = 60, 40
    store, concepts = planted(shown, hidden)
    tau = gathering().temperature
    null = null_relevance(store, concepts[:shown], np.arange(shown), tau)
    found = np.array([store.weigh(concept, gathering()).relevance for concept in concepts])
    percentiles = 100 * np.searchsorted(null, found) / len(null)
    assert (percentiles[:shown] == 100).all()
    assert np.mean(percentiles[shown:] >= 90) < 0.25  # a tenth, but for the luck of forty draws


def test_a_null_leaves_out_queries_that_leave_no_row_and_draws_evenly_from_many() -> None:
    store, concepts = planted(2, 0)
    alone, _ = planted(1, 0)
    assert null_relevance(alone, concepts[:1], np.array([0]), 0.03).size == 0
    many = np.tile(concepts, (400, 1))
    assert null_relevance(store, many, np.full(800, 7), 0.03).size == 200


def test_an_empty_null_doubts_nothing(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = AtlasSearcher(atlas)
    monkeypatch.setattr(searcher, "_new_null_relevance", lambda base, modality: np.empty(0, np.float32))
    (found,) = searcher.localize(-atlas.label_embeddings[:1], ["mid"])
    assert found.evidence is not None
    assert not found.evidence.doubtful


def test_evidence_of_several_layers_is_the_weakest(atlas: Atlas) -> None:
    searcher, query = AtlasSearcher(atlas), atlas.label_embeddings[:1]
    single = [searcher.localize(query, [layer])[0].evidence for layer in ("mid", "logits")]
    both = searcher.localize(query, ["mid", "logits"])[0].evidence
    assert both == min((one for one in single if one), key=lambda one: one.null_percentile)


def test_evidence_does_not_depend_on_the_temperature_of_the_request(atlas: Atlas) -> None:
    searcher, query = AtlasSearcher(atlas), atlas.label_embeddings[:2]
    usual = [found.evidence for found in searcher.localize(query, ["mid"])]
    assert [found.evidence for found in searcher.localize(query, ["mid"], temperature=1.0)] == usual


def test_cosines_have_no_evidence_and_images_a_null_of_their_own(atlas: Atlas) -> None:
    searcher = AtlasSearcher(atlas)
    assert searcher.localize(atlas.label_embeddings[:1], ["mid"], method="causal")[0].evidence is None
    (found,) = searcher.localize(np.asarray(atlas.image_embeddings[:1], np.float32), ["mid"], modality="image")
    assert found.evidence is not None
    assert set(searcher._null_relevances._values) == {("mid", "image")}


def test_the_threshold_is_a_setting(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = settings().model_copy(update={"doubt_percentile": 101.0})
    monkeypatch.setattr("miclip.retrieval.evidence.settings", lambda: strict)
    (found,) = AtlasSearcher(atlas).localize(atlas.label_embeddings[:1], ["mid"])
    assert found.evidence is not None
    assert found.evidence.doubtful


def test_a_negated_text_is_doubtful_unless_it_is_a_label(recipe: Any, tmp_path: Any) -> None:
    atlas = recipe(labels=("dog", "no entry", "bus", "tree")).open(tmp_path)
    asked = atlas.label_embeddings[[0, 0, 1]]
    texts = ("dog", "not a dog", "no entry")
    found = [one.evidence for one in AtlasSearcher(atlas).localize(asked, ["mid"], concepts=texts)]
    assert [(one.doubtful, one.negation) for one in found if one] == [(False, ""), (True, "not"), (False, "")]


def test_a_text_that_the_labels_name_is_trusted_above_the_middle_of_the_null(recipe: Any, tmp_path: Any) -> None:
    atlas = recipe(labels=("African elephant", "cat", "bus", "tree")).open(tmp_path)
    store = AtlasSearcher(atlas)._store("mid")
    weighed = store.weigh(AtlasSearcher(atlas).centre(atlas.label_embeddings[:1])[0], gathering())
    for beaten, text, doubtful in ((60, "elephant", False), (60, "mammal", True), (40, "elephant", True)):
        null = np.sort(np.r_[np.zeros(beaten), np.full(100 - beaten, 2.0)]).astype(np.float32)
        evidence = judge_evidence(store, weighed, atlas.manifest.labels, null, text)
        assert evidence.labels[0].label == "African elephant"
        assert evidence.null_percentile == beaten
        assert evidence.doubtful == doubtful, text
