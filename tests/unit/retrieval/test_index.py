"""Promises of the vector index."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miclip.atlas import normalise
from miclip.errors import InvalidInput
from miclip.retrieval._cache import Cache
from miclip.retrieval.index import FLAT_BELOW, GRAPH_BELOW, VectorIndex, choose


def vectors(count: int, dim: int = 16, seed: int = 0) -> Any:
    return normalise(np.random.default_rng(seed).standard_normal((count, dim)))


STORED = vectors(10_000, 8)


def brute_force(stored: Any, queries: Any, k: int) -> tuple[Any, Any]:
    scores = queries.astype(np.float64) @ stored.astype(np.float64).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 25), st.integers(0, 5))
def test_a_flat_index_agrees_with_brute_force(count: int, k: int, queries: int, seed: int) -> None:
    stored, asked = vectors(count, seed=seed), vectors(queries, seed=seed + 100)
    scores, found = VectorIndex(stored).search(asked, k)
    expected_scores, expected = brute_force(stored, asked, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_vectors_need_not_be_normalised() -> None:
    stored = np.random.default_rng(0).standard_normal((50, 8)) * np.arange(1, 51)[:, None]
    _, found = VectorIndex(stored).search(vectors(3, 8), 50)
    np.testing.assert_array_equal(found, brute_force(stored, vectors(3, 8), 50)[1])


def test_equal_scores_are_in_order_of_index() -> None:
    stored = np.ones((3000, 4))
    stored[::3] = 2
    _, found = VectorIndex(stored).search(np.ones((2, 4)), 3000)
    expected = [*range(0, 3000, 3), *(place for place in range(3000) if place % 3)]
    np.testing.assert_array_equal(found, [expected, expected])


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
def test_results_do_not_depend_on_the_other_queries_to_the_last_bit(kind: str) -> None:
    assert_independent(index_of(kind), vectors(64, 8, seed=1))


def test_results_of_long_vectors_do_not_depend_on_the_other_queries_either() -> None:
    assert_independent(VectorIndex(vectors(2000, 384)), vectors(64, 384, seed=1))


def assert_independent(index: VectorIndex, asked: Any) -> None:
    together = index.search(asked, 10)
    for place in range(0, 64, 9):
        alone = index.search(asked[[place]], 10)
        np.testing.assert_array_equal(alone[0][0], together[0][place])
        np.testing.assert_array_equal(alone[1][0], together[1][place])


@cache
def index_of(kind: str) -> VectorIndex:
    flat_below = 10**9 if kind == "flat" else 1
    graph_below = 1 if kind == "ivfpq" else 10**9
    index = VectorIndex(STORED, flat_below=flat_below, graph_below=graph_below)
    assert index.kind == kind
    return index


@pytest.mark.parametrize(("kind", "recall"), [("hnsw", 0.95), ("ivfpq", 0.6)])
def test_large_indices_give_exact_scores_and_most_of_the_best(kind: str, recall: float) -> None:
    stored, asked = STORED, vectors(20, 8, seed=1)
    scores, found = index_of(kind).search(asked, 10)
    expected = brute_force(stored, asked, 10)[1]
    shared = [len(set(ours) & set(best)) / 10 for ours, best in zip(found, expected, strict=True)]
    assert np.mean(shared) >= recall
    np.testing.assert_allclose(scores, np.einsum("qkd,qd->qk", stored[found], asked), atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
def test_measured_recall_is_that_against_brute_force(kind: str) -> None:
    asked, index = vectors(50, 8, seed=1), index_of(kind)
    _, found = index.search(asked, 10)
    _, expected = brute_force(STORED, asked, 10)
    share = np.mean([len({*one} & {*other}) / 10 for one, other in zip(found, expected, strict=True)])
    assert index.recall(asked, 10) == pytest.approx(share)
    assert kind != "flat" or share == 1


def test_an_index_that_misses_has_a_low_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex(STORED)
    monkeypatch.setattr(index, "_candidates", lambda queries, k: np.tile(np.arange(100), (len(queries), 1)))
    assert index.recall(vectors(50, 8, seed=1), 10) < 0.2


def test_ties_cost_no_recall() -> None:
    assert VectorIndex(np.ones((3000, 4))).recall(np.ones((2, 4)), 5) == 1


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_large_indices_can_give_every_vector(kind: str) -> None:
    _, found = index_of(kind).search(vectors(1, 8, seed=1), len(STORED))
    assert sorted(found[0]) == list(range(len(STORED)))


@pytest.mark.parametrize(
    ("count", "kind"), [(1, "flat"), (49_999, "flat"), (50_000, "hnsw"), (999_999, "hnsw"), (1_000_000, "ivfpq")]
)
def test_the_kind_is_chosen_by_size(count: int, kind: str) -> None:
    assert choose(count, FLAT_BELOW, GRAPH_BELOW, on_gpu=False) == kind


@pytest.mark.parametrize(
    "queries", [np.zeros((1, 15)), np.zeros(16), np.full((1, 16), np.nan), np.full((1, 16), np.inf)]
)
def test_queries_that_do_not_fit_are_refused(queries: Any) -> None:
    with pytest.raises(InvalidInput, match="dimension 16"):
        VectorIndex(vectors(5)).search(queries, 1)


def test_a_search_for_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        VectorIndex(vectors(5)).search(vectors(1), 0)


def test_no_queries_give_no_results() -> None:
    scores, found = VectorIndex(vectors(5)).search(np.zeros((0, 16)), 3)
    assert scores.shape == found.shape == (0, 3)


def test_a_cached_value_is_built_once_by_many_threads() -> None:
    cache: Cache[object] = Cache()
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: cache.get("key", object), range(200)))
    assert len(set(map(id, values))) == 1


def test_a_failed_build_is_not_kept() -> None:
    cache: Cache[int] = Cache()
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert cache.get("key", lambda: 7) == 7


def test_a_full_cache_drops_what_was_unused_for_longest() -> None:
    cache: Cache[int] = Cache(2)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda: 1)
    assert cache.get("a", lambda: 2) == 1
    assert cache.get("b", lambda: 2) == 2
