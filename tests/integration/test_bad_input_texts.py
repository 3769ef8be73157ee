"""Texts that are none, too long or unprintable are refused by their place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from miclip.v1 import aligner_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as steering
from tests.integration.bad_requests import (
    MEGABYTE,
    Bad,
    cases,
    check_refused,
    concept,
    create,
    describe_units,
    localize,
    trace,
)


def bad_texts() -> Iterator[tuple[str, Bad]]:
    for name, text in (("1 MB", MEGABYTE), ("empty", ""), ("blank", "  "), ("control", "a\x00b"), ("C1", "a\x9b31m")):
        yield name, Bad("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["dog", text]), "texts[1]")
        yield name, Bad("aligner/TraceImages", trace(concepts=["dog", text]), "concepts[1]")
        yield name, Bad("retrieval/LocalizeConcepts", localize(texts=[text]), "texts[0]")
        words = retrieval_pb2.ConceptList(concepts=["dog", text])
        yield name, Bad("retrieval/DescribeUnits", describe_units(concepts=words), "concepts.concepts[1]")
        vocabulary = retrieval_pb2.CreateVocabularyRequest(vocabulary_id="v", concepts=["dog", text])
        yield name, Bad("retrieval/CreateVocabulary", vocabulary, "concepts[1]")
        yield name, Bad("steering/CreatePolicy", concept(text=text), "policy.concept.text")
        yield name, Bad("steering/StopSteering", steering.StopSteeringRequest(reason=text), "reason")
        yield name, Bad("steering/ResumeSteering", steering.ResumeSteeringRequest(reason=text), "reason")
    yield "1 MB", Bad("steering/CreatePolicy", create(description=MEGABYTE), "policy.description")
    yield "none", Bad("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(), "texts")
    yield "too many", Bad("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["a"] * 257), "texts")
    yield "none", Bad("retrieval/LocalizeConcepts", localize(texts=[]), "")


CASES = cases(bad_texts)


@pytest.mark.parametrize("bad", CASES)
def test_a_text_that_is_none_is_refused_by_its_place(wire: Any, bad: Bad) -> None:
    check_refused(wire, bad)
