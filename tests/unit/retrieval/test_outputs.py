"""Promises of searches by the model's outputs: their formula, outputs without a name, and what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from miclip.atlas import Atlas, centre_texts
from miclip.retrieval.results import LocalizationMix
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings


def unit_length(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture
def knowing(recipe: Any, tmp_path: Any) -> Atlas:
    return recipe().know_outputs().open(tmp_path)


def units(found: Any) -> list[int]:
    return [unit.unit for unit in found.units]


@pytest.mark.parametrize("mix", [LocalizationMix(), LocalizationMix(0, 1, 0), LocalizationMix(1, 2, 3)])
def test_a_text_is_answered_by_the_outputs(knowing: Atlas, mix: LocalizationMix) -> None:
    record, tau = knowing.layer("mid"), settings().temperature
    mean = knowing.label_embeddings.astype(np.float64).mean(0)
    z = unit_length((record.activations.astype(np.float64) - record.centre) @ record.encoder.T.astype(np.float64))
    sums = np.array([z[knowing.predicted == label].sum(0) for label in range(8)])
    parts = (unit_length(sums), knowing.output_embeddings, unit_length(knowing.label_embeddings - mean))
    weights = (mix.mechanism, mix.input, mix.output)
    vectors = sum(weight * part.astype(np.float64) for weight, part in zip(weights, parts, strict=True)) / sum(weights)
    queries = np.random.default_rng(3).standard_normal((6, knowing.manifest.clip_dim)).astype(np.float32)
    expected = softmax(unit_length(queries - mean) @ vectors.T / tau, axis=1) @ record.output_effects.astype(np.float64)
    for row, found in zip(expected, AtlasSearcher(knowing, mix).localize(queries, ["mid"], 40), strict=True):
        np.testing.assert_allclose([unit.score for unit in found.units], row[units(found)], atol=1e-3)
        assert [unit.score for unit in found.units] == sorted((unit.score for unit in found.units), reverse=True)
        assert found.mass == 1


def test_an_answer_does_not_depend_on_the_other_queries(knowing: Atlas) -> None:
    searcher = AtlasSearcher(knowing)
    together = searcher.localize(knowing.label_embeddings, ["mid"], 5)
    assert [searcher.localize(knowing.label_embeddings[[row]], ["mid"], 5)[0] for row in range(8)] == list(together)


def test_an_image_is_answered_by_probe_rows_as_if_the_outputs_were_not_known(
    knowing: Atlas, recipe: Any, tmp_path: Any
) -> None:
    unknowing, images = recipe().open(tmp_path / "other"), np.asarray(knowing.image_embeddings[:3], np.float32)
    found = [AtlasSearcher(one).localize(images, ["mid"], 5, modality="image") for one in (knowing, unknowing)]
    assert [one.units for one in found[0]] == [one.units for one in found[1]]


def test_an_output_without_a_name_is_found_by_what_it_looks_like(recipe: Any, tmp_path: Any) -> None:
    atlas = recipe().know_outputs(unnamed=[3]).open(tmp_path)
    hidden = centre_texts(np.asarray(recipe().tensors["shared"]["label_embeddings"], np.float32), atlas.label_mean)[3]
    effects = np.asarray(atlas.layer("mid").output_effects, np.float32)
    (found,) = AtlasSearcher(atlas).localize((hidden + atlas.label_mean)[None], ["mid"], 5)
    assert set(units(found)) == set(np.argsort(-effects[3])[:5])
    assert found.evidence is not None
    assert found.evidence.labels[0].label == "output 3"


def test_names_alone_centre_texts(recipe: Any, tmp_path: Any) -> None:
    some = recipe().know_outputs(unnamed=[1, 2]).open(tmp_path / "some")
    np.testing.assert_allclose(some.label_mean, np.delete(some.label_embeddings, [1, 2], axis=0).mean(0), atol=1e-6)
    none = recipe().know_outputs(unnamed=range(8)).open(tmp_path / "none")
    np.testing.assert_allclose(none.label_mean, none.label_embeddings.mean(0), atol=1e-6)


def test_units_of_several_layers_are_ranked_by_their_share_of_the_layer(knowing: Atlas) -> None:
    searcher, query = AtlasSearcher(knowing), knowing.label_embeddings[:1]
    single = {layer: searcher.localize(query, [layer], 100)[0].units for layer in ("mid", "logits")}
    for layer, found in single.items():
        whole = sum(abs(unit.score) for unit in found)
        assert [unit.share for unit in found] == pytest.approx([unit.score / whole for unit in found], rel=1e-4), layer
    together = searcher.localize(query, ["mid", "logits"], 10)[0].units
    everything = [unit for found in single.values() for unit in found]
    assert list(together) == sorted(everything, key=lambda unit: -unit.share)[:10]


def test_cosines_have_no_share(knowing: Atlas) -> None:
    (found,) = AtlasSearcher(knowing).localize(knowing.label_embeddings[:1], ["mid", "logits"], 9, method="filter")
    assert {unit.share for unit in found.units} == {0.0}
    assert [unit.score for unit in found.units] == sorted((unit.score for unit in found.units), reverse=True)
