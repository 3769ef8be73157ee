"""Descriptions: what a unit drives, what excites it, what it lowers, and why a label abstains."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.promise import Promise, Verdict, advice
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import Vocabulary
from miclip.wire.promise import read_promise, read_verdict, write_promise, write_verdict
from miclip.wire.retrieval import read_description, write_description

KEPT = Promise(wanted=0.85, reached=True, precision=0.91, low=0.88, coverage=0.5, confidence=0.5)
MISSED = Promise(wanted=0.85, reached=False, precision=0.5, low=0.3, coverage=0.0, confidence=0.9)
VERDICT = Verdict(
    images=120, labels=8, predicted=8, judged=8, images_a_label=15, agreement=1.0, chance=0.125, p_value=0.0005,
    known=True,
)  # fmt: skip


@pytest.fixture
def made(recipe: Any) -> Any:
    """An atlas whose units can be changed before it is written."""
    return recipe().judge().know_outputs()


def searcher_of(made: Any, folder: Path) -> AtlasSearcher:
    return AtlasSearcher(made.open(folder))


def test_the_lists_are_those_of_the_outputs(made: Any, tmp_path: Path) -> None:
    searcher = searcher_of(made, tmp_path)
    layer, atlas = searcher.atlas.layer("mid"), searcher.atlas
    predicted = np.asarray(atlas.predicted)
    activations = np.asarray(layer.activations, np.float64)
    own = np.stack([activations[predicted == label].mean(axis=0) for label in range(len(atlas.manifest.labels))])
    above = (own - layer.mean) / layer.std
    for found in searcher.describe("mid", range(40), searcher.labels):
        assert found.active_for[0].index == int(above[:, found.unit].argmax())
        assert found.active_for[0].activation == pytest.approx(above[:, found.unit].max(), rel=0.2)
        values = [concept.activation for concept in found.active_for]
        assert values == sorted(values, reverse=True) and min(values) > 0
        assert all(concept.causal_score < 0 for concept in found.suppresses)


def test_a_suppressor_is_named_as_such(made: Any, tmp_path: Path) -> None:
    """Unit 5 does nothing but lower the third class."""
    made.tensors["mid"]["output_effects"][:, 5] = 0
    made.tensors["mid"]["output_effects"][2, 5] = -3
    effects = made.tensors["mid"]["output_effects"].astype(np.float32)
    made.tensors["mid"]["effect_mean"][5] = effects[:, 5].mean()
    made.tensors["mid"]["effect_std"][5] = effects[:, 5].std()
    made.tensors["mid"]["null_contrast"][:] = np.linspace(0, 2, 101)
    (found,) = searcher_of(made, tmp_path).describe("mid", [5], searcher_of(made, tmp_path / "b").labels)
    assert found.suppresses[0].index == 2
    assert found.suppresses[0].causal_score < -1
    assert found.abstained


def test_an_effect_of_nothing_or_less_is_never_a_label(made: Any, tmp_path: Path) -> None:
    made.tensors["mid"]["output_effects"][:, 4] = -np.arange(1, 9)
    (found,) = searcher_of(made, tmp_path).describe("mid", [4], searcher_of(made, tmp_path / "b").labels)
    assert found.reason == "effect" and found.abstained


def test_a_unit_of_the_logits_is_named_by_its_class(made: Any, tmp_path: Path) -> None:
    made.tensors["logits"]["output_effects"][:] = np.random.default_rng(0).standard_normal((8, 8))
    searcher = searcher_of(made, tmp_path)
    for found in searcher.describe("logits", range(8), searcher.labels):
        assert found.concepts[0].index == found.unit and not found.abstained


@pytest.mark.parametrize(
    ("promise", "sure", "reason"), [(KEPT, 0.7, ""), (KEPT, 0.3, "confidence"), (MISSED, 0.95, "promise")]
)
def test_labels_are_kept_as_the_promise_says(
    made: Any, tmp_path: Path, promise: Promise, sure: float, reason: str
) -> None:
    made.manifest["layers"][0]["promise"] = asdict(promise)
    made.tensors["mid"]["confidence"] = np.full(40, sure, np.float32)
    searcher = searcher_of(made, tmp_path)
    for found in searcher.describe("mid", range(40), searcher.labels):
        assert (found.reason, found.abstained) == (reason, bool(reason))
        assert found.confidence == pytest.approx(sure) and found.promise == promise


def test_a_word_that_is_no_label_has_to_stand_out_by_itself(made: Any, tmp_path: Path) -> None:
    made.manifest["layers"][0]["promise"] = asdict(KEPT)
    made.tensors["mid"]["confidence"] = np.full(40, 0.9, np.float32)
    made.tensors["mid"]["null_contrast"][:] = np.linspace(90, 100, 101)
    searcher = searcher_of(made, tmp_path)
    unit = searcher.labels.embeddings[:1]
    word = Vocabulary("", ("a word",), unit)
    assert {found.reason for found in searcher.describe("mid", range(40), word)} <= {"chance", "effect"}
    assert {found.reason for found in searcher.describe("mid", range(40), searcher.labels)} == {""}


def test_nothing_is_kept_where_the_images_and_the_labels_have_nothing_to_do_with_each_other(
    made: Any, tmp_path: Path
) -> None:
    made.manifest["verdict"] = {**asdict(VERDICT), "known": False}
    searcher = searcher_of(made, tmp_path)
    for layer, units in (("mid", 40), ("logits", 8)):
        assert {found.reason for found in searcher.describe(layer, range(units), searcher.labels)} == {"promise"}


def test_large_vocabularies_score_as_small_ones_do(made: Any, tmp_path: Path) -> None:
    searcher = searcher_of(made, tmp_path)
    vectors = np.random.default_rng(5).standard_normal((3000, 32)) + 1
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    large = Vocabulary("", tuple(f"word {at}" for at in range(3000)), vectors)
    for found in searcher.describe("mid", [0, 17, 39], large):
        chosen = [concept.index for concept in found.concepts]
        small = Vocabulary("", tuple(large.concepts[at] for at in chosen), vectors[chosen])
        (again,) = searcher.describe("mid", [found.unit], small)
        by_text = {concept.concept: concept for concept in again.concepts}
        for concept in found.concepts:
            assert by_text[concept.concept].causal_score == pytest.approx(concept.causal_score, abs=1e-5)
            assert by_text[concept.concept].activation == pytest.approx(concept.activation, abs=1e-4)


def test_messages_hold_all_of_it(made: Any, tmp_path: Path) -> None:
    made.manifest["layers"][0]["promise"] = asdict(KEPT)
    made.tensors["mid"]["confidence"] = np.linspace(0, 1, 40, dtype=np.float32)
    searcher = searcher_of(made, tmp_path)
    for found in searcher.describe("mid", range(40), searcher.labels):
        message = write_description(found)
        assert read_description(message, found.atlas, {"mid": KEPT}).reason == found.reason
        assert write_description(read_description(message, found.atlas)) == message
    assert read_promise(write_promise("m", "mid", KEPT)) == ("mid", KEPT)
    assert read_verdict(write_verdict(VERDICT, reached=True)) == VERDICT


def test_sentences_say_what_is_promised_and_what_lacks() -> None:
    assert str(KEPT).startswith("labels kept here were right for 91 % ± 3 of units on images left out")
    assert "no labels kept: the surest were right for 50 % ± 20" in str(MISSED)
    assert "120 images show 8 of 8 labels, 15 each (median)" in str(VERDICT)
    assert not advice(VERDICT, reached=True)
    assert "More images" in advice(VERDICT, reached=False)
    unknown = Verdict(**{**asdict(VERDICT), "known": False})
    assert "which may be chance" in str(unknown) and "nothing to do with what CLIP sees" in advice(
        unknown, reached=False
    )
