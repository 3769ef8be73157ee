"""Labels over open vocabularies are judged by what is written, and shuffled ones fall to the null."""

from __future__ import annotations

import numpy as np
import pytest

from miclip.evaluation.description import Similarity, sentence_embedder

WORDS = {"dog": [1, 0, 0], "Cat": [0, 1, 0], "hound": [0.8, 0.6, 0], "cat": [0, 1, 0], "bus": [0, 0, 1]}


def _embed(texts) -> np.ndarray:  # type: ignore[no-untyped-def,type-arg]
    return np.array([WORDS[text] for text in texts], np.float32)


def test_the_figures_are_those_of_hand() -> None:
    similarity = Similarity(["dog", "Cat"], ["hound", "cat", "bus"], {"toy": _embed})
    found = similarity.summary([np.array([0, 1])])
    assert found.exact == 100.0  # "Cat" is "cat"; "dog" is not in the vocabulary
    assert found.similarity["toy"].value == pytest.approx((0.8 + 1.0) / 2)
    assert found.similarity["toy"].null == pytest.approx((0.0 + 0.6) / 2)  # dog called cat, cat called hound
    assert similarity.summary([np.array([0, 1]), np.array([2, 2])]).exact == 50.0


def test_a_vocabulary_without_the_names_has_no_exact_labels() -> None:
    assert Similarity(["dog"], ["bus", "hound"], {"toy": _embed})._own.tolist() == [-1]


def test_shuffled_labels_fall_to_the_null() -> None:
    generator = np.random.default_rng(0)
    table = {f"w{n}": generator.standard_normal(32) for n in range(60)}
    names, concepts = [f"w{n}" for n in range(20)], list(table)
    similarity = Similarity(names, concepts, {"toy": lambda texts: np.array([table[t] for t in texts], np.float32)})
    right = np.arange(20)
    assert similarity.summary([right]).similarity["toy"].value == pytest.approx(1.0)
    shuffled = similarity.summary([np.roll(right, 7)])
    assert abs(shuffled.similarity["toy"].value - similarity.summary([right]).similarity["toy"].null) < 0.1


def test_the_second_embedder_knows_what_is_alike_without_network() -> None:
    embed = sentence_embedder()
    assert embed is not None
    one, other, far = embed(["fire engine", "fire truck", "banana"])
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-3)
    assert one @ other > 0.4 > one @ far
