"""Promises of the searches: each is compared with its formula in plain NumPy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from miclip.atlas import Atlas
from miclip.errors import InvalidInput, NotAligned
from miclip.retrieval.attribution import Gathering
from miclip.retrieval.results import LocalizationMix
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import Vocabulary, model_labels

KINDS = ("filter", "pattern", "causal")
MIXES = [
    LocalizationMix(),
    LocalizationMix(1, 0, 0),
    LocalizationMix(0, 1, 0),
    LocalizationMix(0, 0, 1),
    LocalizationMix(1, 2, 3),
]


def unit_length(vectors: Any) -> Any:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def centred(atlas: Atlas, texts: Any) -> Any:
    return unit_length(np.asarray(texts, np.float64) - atlas.label_embeddings.astype(np.float64).mean(0))


def embedding(atlas: Atlas, layer: str, kind: str) -> Any:
    record = atlas.layer(layer)
    return unit_length(record.encoder.T if kind == "filter" else getattr(record, kind))


def words(count: int, seed: int = 5) -> Vocabulary:
    vectors = np.random.default_rng(seed).standard_normal((count, 32)) + 1
    return Vocabulary("", tuple(f"word {n}" for n in range(count)), unit_length(vectors).astype(np.float32))


@pytest.fixture
def searcher(atlas: Atlas) -> AtlasSearcher:
    return AtlasSearcher(atlas)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["mid", "logits"])
def test_describe_agrees_with_a_brute_force_cosine(searcher: AtlasSearcher, layer: str, kind: Any) -> None:
    vocabulary, units = words(300), [3, 0, 7]
    cosines = embedding(searcher.atlas, layer, kind)[units] @ centred(searcher.atlas, vocabulary.embeddings).T
    for row, found in zip(cosines, searcher.describe(layer, units, vocabulary, 10, kind), strict=True):
        best = np.argsort(-row)[:10]
        assert [concept.index for concept in found.concepts] == list(best)
        assert [concept.concept for concept in found.concepts] == [f"word {n}" for n in best]
        np.testing.assert_allclose([concept.score for concept in found.concepts], row[best], atol=1e-6)
        assert found.margin == pytest.approx(row[best[0]] - row[best[1]], abs=1e-6)
        assert found.embedding == kind


@pytest.mark.parametrize("kind", KINDS)
def test_localize_in_the_shared_space_agrees_with_a_brute_force_cosine(searcher: AtlasSearcher, kind: Any) -> None:
    queries, atlas = words(6).embeddings, searcher.atlas
    places = [(layer, unit) for layer, size in (("mid", 40), ("logits", 8)) for unit in range(size)]
    units = np.concatenate([embedding(atlas, layer, kind) for layer in ("mid", "logits")])
    cosines = centred(atlas, queries) @ units.T
    for row, found in zip(cosines, searcher.localize(queries, ("mid", "logits"), 12, method=kind), strict=True):
        best = np.argsort(-row)[:12]
        assert [(unit.layer, unit.unit) for unit in found.units] == [places[at] for at in best]
        np.testing.assert_allclose([unit.score for unit in found.units], row[best], atol=1e-6)
        assert found.mass == 1


def direct_attribution(atlas: Atlas, layer: str, query: Any, mix: LocalizationMix, temperature: float) -> Any:
    """score_i = Σ_j softmax_j(s_j / τ) r_ij, in double precision over every probe row."""
    record, c = atlas.layer(layer), centred(atlas, query)
    z = unit_length((record.activations.astype(np.float64) - record.centre) @ record.encoder.T.astype(np.float64))
    images = atlas.image_embeddings.astype(np.float64)
    x = unit_length(images - images.mean(0))
    y = centred(atlas, atlas.label_embeddings)[atlas.predicted]
    s = (mix.mechanism * z @ c + mix.input * x @ c + mix.output * y @ c) / (mix.mechanism + mix.input + mix.output)
    w = np.exp((s - s.max()) / temperature)
    return w / w.sum() @ record.attributions.astype(np.float64)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("temperature", [0.01, 0.03, 1.0])
def test_attribution_equals_its_formula_when_all_rows_are_kept(
    atlas: Atlas, mix: LocalizationMix, temperature: float
) -> None:
    searcher, queries = AtlasSearcher(atlas, mix), words(4).embeddings
    found = searcher.localize(queries, ["mid"], 40, temperature=temperature, rows=240)
    for query, localization in zip(queries, found, strict=True):
        expected = direct_attribution(atlas, "mid", query, mix, temperature)
        scores = {unit.unit: unit.score for unit in localization.units}
        np.testing.assert_allclose([scores[unit] for unit in range(40)], expected, atol=1e-4)
        assert [unit.score for unit in localization.units] == sorted(scores.values(), reverse=True)
        assert localization.mass == 1
        np.testing.assert_allclose(
            searcher.attribution_scores(query, "mid", temperature=temperature), expected, atol=1e-4
        )


def test_few_gathered_rows_that_carry_the_weight_give_the_same_ranking(recipe: Any, tmp_path: Any) -> None:
    atlas = recipe(rows=3000).open(tmp_path)
    searcher, mix = AtlasSearcher(atlas), LocalizationMix()
    for query in atlas.label_embeddings:
        (found,) = searcher.localize(query[None], ["mid"], 5, temperature=0.01, rows=512)
        expected = direct_attribution(atlas, "mid", query, mix, 0.01)
        assert found.mass > 0.99
        assert [unit.unit for unit in found.units] == list(np.argsort(-expected)[:5])
        np.testing.assert_allclose([unit.score for unit in found.units], np.sort(expected)[::-1][:5], rtol=0.01)


def test_the_mass_is_a_lower_bound_of_the_weight_kept(recipe: Any, tmp_path: Any) -> None:
    atlas = recipe(rows=1000).open(tmp_path)
    mix = LocalizationMix(1, 0, 0)
    store = AtlasSearcher(atlas, mix)._store("mid")
    record = atlas.layer("mid")
    z = unit_length((record.activations.astype(np.float64) - record.centre) @ record.encoder.T.astype(np.float64))
    for query in centred(atlas, words(5).embeddings):
        weights = np.sort(np.exp(z @ query / 0.1))[::-1]
        for rows in (1, 10, 100, 999):
            mass = store.weigh(query.astype(np.float32), Gathering(0.1, rows, rows, 1.0)).mass
            assert 0 < mass <= weights[:rows].sum() / weights.sum() + 1e-6


def test_more_rows_are_gathered_until_they_carry_the_weight(recipe: Any, tmp_path: Any) -> None:
    atlas = recipe(rows=1000).open(tmp_path)
    store, query = AtlasSearcher(atlas)._store("mid"), centred(atlas, words(1).embeddings)[0].astype(np.float32)
    few = store.weigh(query, Gathering(0.1, 4, 4, 0.99)).mass
    more = store.weigh(query, Gathering(0.1, 4, 8192, 0.99)).mass
    assert few < 0.5
    assert more >= 0.99


@pytest.mark.parametrize("method", ["attribution", *KINDS])
def test_a_planted_concept_is_found(searcher: AtlasSearcher, method: Any) -> None:
    for label, (found) in enumerate(searcher.localize(searcher.labels.embeddings, ["mid"], 5, method=method)):
        assert {unit.unit % 8 for unit in found.units} == {label}


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_unit_is_described(searcher: AtlasSearcher, kind: Any) -> None:
    for found in searcher.describe("mid", range(40), searcher.labels, 1, kind):
        assert found.concepts[0].index == found.unit % 8
        assert not found.abstained
        assert found.null_percentile > 95


def test_an_image_finds_the_units_of_its_concept(searcher: AtlasSearcher) -> None:
    atlas = searcher.atlas
    for row, found in enumerate(searcher.localize(atlas.image_embeddings[:10], modality="image")):
        assert {unit.unit % 8 for unit in found.units} == {atlas.predicted[row]}


def test_a_unit_without_meaning_abstains(recipe: Any, tmp_path: Any) -> None:
    made = recipe()
    made.tensors["mid"]["causal"][0] = 0  # dead
    rng, texts = np.random.default_rng(0), made.tensors["shared"]["label_embeddings"]
    away = np.linalg.svd(texts)[2][-1]  # no label lies in this direction
    made.tensors["mid"]["causal"][1] = away + 0.001 * rng.standard_normal(32)
    dead, meaningless, good = (searcher := AtlasSearcher(made.open(tmp_path))).describe(
        "mid", [0, 1, 2], searcher.labels
    )
    assert dead.abstained and dead.concepts[0].score == 0
    assert meaningless.abstained and meaningless.null_percentile < 50
    assert not good.abstained


def test_the_percentile_is_that_of_random_directions_over_the_same_words(searcher: AtlasSearcher) -> None:
    vocabulary = words(50)
    directions = np.random.default_rng(9).standard_normal((4000, 40)) @ embedding(searcher.atlas, "mid", "causal")
    best = (unit_length(directions) @ centred(searcher.atlas, vocabulary.embeddings).T).max(1)
    for found in searcher.describe("mid", range(40), vocabulary):
        expected = 100 * (best < found.concepts[0].score).mean()
        assert found.null_percentile == pytest.approx(expected, abs=5)


def test_labels_of_a_unit_do_not_depend_on_the_other_units(searcher: AtlasSearcher) -> None:
    vocabulary = words(2000)
    together = searcher.describe("mid", range(40), vocabulary, 20)
    alone = [AtlasSearcher(searcher.atlas).describe("mid", [unit], vocabulary, 20)[0] for unit in (0, 17, 39)]
    assert alone == [together[unit] for unit in (0, 17, 39)]
    assert searcher.describe("mid", [39, 0, 39], vocabulary, 20) == [together[unit] for unit in (39, 0, 39)]


@pytest.mark.parametrize("method", ["attribution", *KINDS])
def test_units_of_a_query_do_not_depend_on_the_other_queries(searcher: AtlasSearcher, method: Any) -> None:
    queries = words(30).embeddings
    together = searcher.localize(queries, top_k=20, method=method)
    assert searcher.localize(queries[[11]], top_k=20, method=method) == [together[11]]


def test_the_last_layer_before_the_logits_is_searched_by_default(searcher: AtlasSearcher) -> None:
    (found,) = searcher.localize(words(1).embeddings, top_k=1000)
    assert {unit.layer for unit in found.units} == {"mid"}
    assert len(found.units) == 40


def test_fewer_concepts_than_asked_for_give_all(searcher: AtlasSearcher) -> None:
    (found,) = searcher.describe("mid", [0], words(1), 1000)
    assert len(found.concepts) == 1
    assert found.margin == 0


def test_a_record_holds_what_the_atlas_knows(searcher: AtlasSearcher) -> None:
    record, activations = searcher.unit_record("mid", 13), searcher.atlas.layer("mid").activations[:, 13].astype(float)
    assert record.statistics.mean == pytest.approx(activations.mean(), abs=1e-3)
    assert record.statistics.maximum == pytest.approx(activations.max(), abs=1e-2)
    assert sum(record.histogram_counts) == 240
    assert len(record.histogram_edges) == 33
    assert record.top_images[0].row == activations.argmax()
    assert record.top_images[0].image == f"{activations.argmax() // 2}.png"
    assert len({image.image for image in record.top_images}) == 16
    cosines = (units := embedding(searcher.atlas, "mid", "causal")) @ units[13]
    nearest = [unit for unit in np.argsort(-cosines) if unit != 13][:10]
    assert [unit.unit for unit in record.neighbours] == nearest
    np.testing.assert_allclose([unit.score for unit in record.neighbours], cosines[nearest], atol=1e-6)
    assert searcher.unit_statistics("mid", [13]) == [record.statistics]


BAD: list[tuple[Any, str, str]] = [
    (lambda s: s.describe("mid", [0, 40], s.labels), "units[1]", "0 to 39"),
    (lambda s: s.describe("mid", [-1], s.labels), "units[0]", "0 to 39"),
    (lambda s: s.describe("mid", [0], s.labels, 0), "top_k", "1 to 1000"),
    (lambda s: s.describe("mid", [0], s.labels, 2**32 - 1), "top_k", "1 to 1000"),
    (lambda s: s.localize(s.labels.embeddings, top_k=0), "top_k", "1 to 1000"),
    (lambda s: s.localize(s.labels.embeddings, ["mid", "mid"]), "layers", "each layer once"),
    (lambda s: s.localize(s.labels.embeddings, temperature=0.0), "temperature", "0.001 to 10"),
    (lambda s: s.localize(s.labels.embeddings, temperature=float("nan")), "temperature", "0.001 to 10"),
    (lambda s: s.localize(np.zeros((1, 31))), "", ""),
    (lambda s: s.localize(np.full((1, 32), np.nan)), "", ""),
    (lambda s: s.unit_record("mid", 40), "units[0]", "0 to 39"),
]


@pytest.mark.parametrize(("call", "field", "allowed"), BAD)
def test_bad_values_are_refused_with_field_and_range(
    searcher: AtlasSearcher, call: Any, field: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        call(searcher)
    assert (caught.value.field, caught.value.allowed) == (field, allowed)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.describe("layer9", [0], s.labels),
        lambda s: s.localize(s.labels.embeddings, ["layer9"]),
        lambda s: s.unit_record("layer9", 0),
    ],
)
def test_an_unknown_layer_names_those_there_are(searcher: AtlasSearcher, call: Any) -> None:
    with pytest.raises(NotAligned, match="mid, logits"):
        call(searcher)


def test_many_threads_get_the_answers_of_one(atlas: Atlas) -> None:
    queries, vocabulary = words(8).embeddings, words(200)

    def ask(searcher: AtlasSearcher) -> Any:
        return (
            searcher.describe("mid", range(40), vocabulary),
            searcher.localize(queries),
            searcher.unit_record("mid", 3),
        )

    shared, expected = AtlasSearcher(atlas), ask(AtlasSearcher(atlas))
    with ThreadPoolExecutor(8) as pool:
        assert all(answer == expected for answer in pool.map(lambda _: ask(shared), range(24)))


def test_warming_builds_what_searches_use(searcher: AtlasSearcher, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher.warm()
    searcher.describe("mid", [0], model_labels(searcher.atlas))
    monkeypatch.setattr("miclip.retrieval.search.VectorIndex", None)
    monkeypatch.setattr("miclip.retrieval.search.AttributionStore", None)
    searcher.describe("mid", [0], searcher.labels)
    searcher.localize(searcher.labels.embeddings, ["mid", "logits"])
    searcher.unit_record("mid", 0)


def test_indices_are_measured_over_all_layers(searcher: AtlasSearcher) -> None:
    assert searcher.recall() == {"units": 1, "rows": 1}, "exhaustive at this size"
    worst = searcher._unit_index("mid", searcher._kind("mid", None))
    worst._candidates = lambda queries, k: np.tile(np.arange(20), (len(queries), 1))  # type: ignore[method-assign]
    assert searcher.recall()["units"] < 1
    assert searcher.recall()["rows"] == 1
