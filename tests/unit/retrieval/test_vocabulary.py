"""Promises of vocabularies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miclip.atlas import Atlas
from miclip.errors import InvalidInput, MiclipError, NotFound
from miclip.retrieval.vocabulary import (
    Vocabulary,
    builtin_concepts,
    builtin_vocabularies,
    check_concepts,
    embed_vocabulary,
    model_labels,
)


@pytest.mark.parametrize(("name", "size"), [("emoji", 1436), ("imagenet", 998)])
def test_builtin_vocabularies_are_valid(name: str, size: int) -> None:
    concepts = builtin_concepts(name)
    assert name in builtin_vocabularies()
    assert check_concepts(concepts) == concepts
    assert len(concepts) == size


def test_the_emoji_vocabulary_holds_the_demo_classes() -> None:
    from miclip.demo.concepts import CLASSES

    assert set(CLASSES) <= set(builtin_concepts("emoji"))


@pytest.mark.parametrize("name", ["", "model-labels", "../../etc/passwd", "x" * 10_000])
def test_an_unknown_vocabulary_names_those_there_are(name: str) -> None:
    with pytest.raises(NotFound, match="emoji, imagenet") as caught:
        builtin_concepts(name)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("concepts", "field", "message"),
    [
        ([], "concepts", "0 concepts; 1 to 20000"),
        (["a"] * 100_001, "concepts", "100001 concepts"),
        (["dog", ""], "concepts[1]", "0 characters; allowed is 1 to 512"),
        (["dog", " \n"], "concepts[1]", "0 characters"),
        (["x" * 513], "concepts[0]", "513 characters"),
        (["dog", "cat", " dog "], "concepts[2]", "repeats concepts[0]"),
        (["a\x00b"], "concepts[0]", "control characters"),
        (["a\nb"], "concepts[0]", "control characters"),
        (["\ud800"], "concepts[0]", "control characters"),
    ],
)
def test_a_bad_concept_is_refused_by_name_and_range(concepts: list[str], field: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_concepts(concepts)
    assert caught.value.field == field
    assert message in caught.value.message
    assert caught.value.allowed


@given(st.lists(st.text(max_size=600), max_size=20))
def test_any_list_is_accepted_whole_or_refused_with_a_field(concepts: list[str]) -> None:
    try:
        checked = check_concepts(concepts, field="words")
    except MiclipError as error:
        assert error.field.startswith("words")
    else:
        assert checked == tuple(concept.strip() for concept in concepts)
        assert len(set(checked)) == len(checked)


def test_a_vocabulary_is_embedded_in_batches_in_order() -> None:
    sizes = []

    def embed(texts: list[str]) -> Any:
        sizes.append(len(texts))
        return np.array([[float(text), 1.0] for text in texts], np.float32)

    vocabulary = embed_vocabulary("numbers", [str(n) for n in range(10)], embed, batch=4)
    assert sizes == [4, 4, 2]
    np.testing.assert_allclose(vocabulary.embeddings[:, 0] / vocabulary.embeddings[:, 1], range(10), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vocabulary.embeddings, axis=1), 1, rtol=1e-6)


def test_the_hash_depends_on_the_concepts_and_the_fingerprint_on_their_embeddings_too() -> None:
    def hashes(concepts: tuple[str, ...], scale: float) -> tuple[str, str]:
        vocabulary = Vocabulary("", concepts, np.full((len(concepts), 3), scale, np.float32))
        return vocabulary.sha256, vocabulary.fingerprint

    first = hashes(("a", "b"), 1.0)
    assert hashes(("a", "b"), 1.0) == first
    assert hashes(("a", "b"), 2.0)[0] == first[0]
    assert hashes(("a", "b"), 2.0)[1] != first[1]
    assert hashes(("b", "a"), 1.0)[0] != first[0]


def test_concepts_and_embeddings_must_match() -> None:
    with pytest.raises(InvalidInput, match="2 concepts"):
        Vocabulary("", ("a", "b"), np.zeros((3, 4), np.float32))


def test_the_labels_of_a_model_are_a_vocabulary(atlas: Atlas) -> None:
    labels = model_labels(atlas)
    assert labels.concepts == atlas.manifest.labels
    np.testing.assert_allclose(labels.embeddings, atlas.label_embeddings, atol=1e-6)


def test_a_label_that_repeats_is_kept_once(recipe: Any, tmp_path: Any) -> None:
    made = recipe(labels=("dog", "crane", "crane", "fox"))
    labels = model_labels(made.open(tmp_path))
    assert labels.concepts == ("dog", "crane", "fox")
    np.testing.assert_allclose(labels.embeddings, made.tensors["shared"]["label_embeddings"][[0, 1, 3]], atol=1e-6)
