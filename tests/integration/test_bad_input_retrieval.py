"""Bad input to every RPC of retrieval gets the right status, names the field and the range, and harms nobody."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from miclip.v1 import retrieval_pb2 as pb
from tests.names import RESNET_NAME as MODEL

LAYER = f"{MODEL}/layers/layer4"
UNIT = f"{LAYER}/units/0"
LONG = "x" * 1_000_000
HUGE = 2**32 - 1
INTERNALS = re.compile(r"Traceback|\.py\b|site-packages|/tmp/|/home/|ServeReplica|ray::")
TRAVERSAL = "models/../../etc/passwd"


def describe(**fields: Any) -> pb.DescribeUnitsRequest:
    return pb.DescribeUnitsRequest(**{"units": [UNIT], **fields})


def localize(**fields: Any) -> pb.LocalizeConceptsRequest:
    return pb.LocalizeConceptsRequest(**{"model": MODEL, "texts": ["dog"], **fields})


def words(*concepts: str) -> pb.ConceptList:
    return pb.ConceptList(concepts=concepts)


DESCRIBE = {
    "no unit": (describe(units=[]), "INVALID_ARGUMENT", "units", "1 to 1000"),
    "too many units": (describe(units=[UNIT] * 1001), "INVALID_ARGUMENT", "units", "1 to 1000"),
    "traversal": (describe(units=[UNIT, TRAVERSAL]), "INVALID_ARGUMENT", "units[1]", "models/{model}/layers"),
    "traversal in parts": (
        describe(units=["models/../layers/../units/0"]), "INVALID_ARGUMENT", "units[0]", "models/{model}",
    ),
    "megabyte of a name": (describe(units=[LONG]), "INVALID_ARGUMENT", "units[0]", "models/{model}/layers"),
    "two models": (
        describe(units=[UNIT, "models/other/layers/layer4/units/0"]), "INVALID_ARGUMENT", "units[1]", "one model",
    ),
    "unknown model": (describe(units=["models/nope/layers/a/units/0"]), "NOT_FOUND", "units[0]", "emoji-resnet"),
    "unknown layer": (describe(units=[f"{MODEL}/layers/nope/units/0"]), "NOT_FOUND", "units[0]", "layer4"),
    "unit out of range": (describe(units=[UNIT, f"{LAYER}/units/256"]), "INVALID_ARGUMENT", "units[1]", "0 to 255"),
    "huge unit": (describe(units=[f"{LAYER}/units/4294967296"]), "INVALID_ARGUMENT", "units[0]", "models/{model}"),
    "negative unit": (describe(units=[f"{LAYER}/units/-1"]), "INVALID_ARGUMENT", "units[0]", "models/{model}"),
    "top_k 0": (describe(top_k=0), "INVALID_ARGUMENT", "top_k", "1 to 1000"),
    "top_k huge": (describe(top_k=HUGE), "INVALID_ARGUMENT", "top_k", "1 to 1000"),
    "unknown embedding": (describe(embedding=9), "INVALID_ARGUMENT", "embedding", "UNIT_EMBEDDING_CAUSAL"),
    "no concept": (describe(concepts=words()), "INVALID_ARGUMENT", "concepts.concepts", "1 to 256"),
    "empty concept": (describe(concepts=words("dog", " ")), "INVALID_ARGUMENT", "concepts.concepts[1]", "1 to 512"),
    "megabyte of a concept": (describe(concepts=words(LONG)), "INVALID_ARGUMENT", "concepts.concepts[0]", "1 to 512"),
    "concept twice": (describe(concepts=words("a", "a")), "INVALID_ARGUMENT", "concepts.concepts[1]", "once"),
    "control characters": (describe(concepts=words("a\0b")), "INVALID_ARGUMENT", "concepts.concepts[0]", "printable"),
    "too many concepts": (
        describe(concepts=words(*map(str, range(257)))), "INVALID_ARGUMENT", "concepts.concepts", "1 to 256",
    ),
    "unknown vocabulary": (describe(vocabulary="vocabularies/nope"), "NOT_FOUND", "vocabulary", ""),
    "vocabulary traversal": (
        describe(vocabulary="vocabularies/../x"), "INVALID_ARGUMENT", "vocabulary", "vocabularies/{id}",
    ),
    "empty vocabulary": (describe(vocabulary=""), "INVALID_ARGUMENT", "vocabulary", "vocabularies/{id}"),
}  # fmt: skip

LOCALIZE = {
    "empty": (pb.LocalizeConceptsRequest(), "INVALID_ARGUMENT", "model", "models/{model}"),
    "no query": (localize(texts=[]), "INVALID_ARGUMENT", "texts", "1 to 256"),
    "empty text": (localize(texts=["dog", ""]), "INVALID_ARGUMENT", "texts[1]", "1 to 512"),
    "megabyte of text": (localize(texts=[LONG]), "INVALID_ARGUMENT", "texts[0]", "1 to 512"),
    "too many texts": (localize(texts=["a"] * 257), "INVALID_ARGUMENT", "texts", "0 to 256"),
    "too many images": (localize(images=[b"x"] * 65), "INVALID_ARGUMENT", "images", "0 to 64"),
    "traversal": (localize(model=TRAVERSAL), "INVALID_ARGUMENT", "model", "models/{model}"),
    "unknown model": (localize(model="models/nope"), "NOT_FOUND", "model", "emoji-resnet"),
    "unknown layer": (localize(layers=[f"{MODEL}/layers/nope"]), "NOT_FOUND", "layers[0]", "layer4"),
    "layer of another model": (
        localize(layers=["models/other/layers/layer4"]), "INVALID_ARGUMENT", "layers[0]", "models/emoji-resnet",
    ),
    "layer twice": (localize(layers=[LAYER, LAYER]), "INVALID_ARGUMENT", "layers[1]", "once"),
    "top_k 0": (localize(top_k=0), "INVALID_ARGUMENT", "top_k", "1 to 1000"),
    "top_k huge": (localize(top_k=HUGE), "INVALID_ARGUMENT", "top_k", "1 to 1000"),
    "unknown method": (localize(method=99), "INVALID_ARGUMENT", "method", "LOCALIZATION_METHOD_ATTRIBUTION"),
    "temperature 0": (localize(temperature=0), "INVALID_ARGUMENT", "temperature", "0.001 to 10"),
    "temperature NaN": (localize(temperature=math.nan), "INVALID_ARGUMENT", "temperature", "0.001 to 10"),
    "temperature 1e38": (localize(temperature=1e38), "INVALID_ARGUMENT", "temperature", "0.001 to 10"),
    "temperature -inf": (localize(temperature=-math.inf), "INVALID_ARGUMENT", "temperature", "0.001 to 10"),
}  # fmt: skip

OTHERS = {
    "GetUnit empty": ("GetUnit", pb.GetUnitRequest(), "INVALID_ARGUMENT", "name", "models/{model}/layers"),
    "GetUnit traversal": ("GetUnit", pb.GetUnitRequest(name=TRAVERSAL), "INVALID_ARGUMENT", "name", "models/{model}"),
    "GetUnit megabyte": ("GetUnit", pb.GetUnitRequest(name=LONG), "INVALID_ARGUMENT", "name", "models/{model}"),
    "GetUnit unknown model": (
        "GetUnit", pb.GetUnitRequest(name="models/nope/layers/a/units/0"), "NOT_FOUND", "name", "emoji-resnet",
    ),
    "GetUnit unknown layer": (
        "GetUnit", pb.GetUnitRequest(name=f"{MODEL}/layers/nope/units/0"), "NOT_FOUND", "name", "layer4",
    ),
    "GetUnit out of range": (
        "GetUnit", pb.GetUnitRequest(name=f"{LAYER}/units/256"), "INVALID_ARGUMENT", "name", "0 to 255",
    ),
    "ListUnits empty": ("ListUnits", pb.ListUnitsRequest(), "INVALID_ARGUMENT", "parent", "models/{model}/layers"),
    "ListUnits unknown layer": (
        "ListUnits", pb.ListUnitsRequest(parent=f"{MODEL}/layers/nope"), "NOT_FOUND", "parent", "layer4",
    ),
    "ListUnits page too large": (
        "ListUnits", pb.ListUnitsRequest(parent=LAYER, page_size=HUGE), "INVALID_ARGUMENT", "page_size", "1000",
    ),
    "ListUnits foreign token": (
        "ListUnits", pb.ListUnitsRequest(parent=LAYER, page_token="@@"), "INVALID_ARGUMENT", "page_token", "",
    ),
    "ListVocabularies page too large": (
        "ListVocabularies", pb.ListVocabulariesRequest(page_size=HUGE), "INVALID_ARGUMENT", "page_size", "1000",
    ),
    "CreateVocabulary empty": (
        "CreateVocabulary", pb.CreateVocabularyRequest(), "INVALID_ARGUMENT", "vocabulary_id", "letters",
    ),
    "CreateVocabulary traversal": (
        "CreateVocabulary", pb.CreateVocabularyRequest(vocabulary_id="../x", concepts=["a"]),
        "INVALID_ARGUMENT", "vocabulary_id", "letters",
    ),
    "CreateVocabulary without concepts": (
        "CreateVocabulary", pb.CreateVocabularyRequest(vocabulary_id="new"), "INVALID_ARGUMENT", "concepts", "20000",
    ),
    "CreateVocabulary megabyte": (
        "CreateVocabulary", pb.CreateVocabularyRequest(vocabulary_id="new", concepts=["a", LONG]),
        "INVALID_ARGUMENT", "concepts[1]", "1 to 512",
    ),
    "CreateVocabulary too many": (
        "CreateVocabulary", pb.CreateVocabularyRequest(vocabulary_id="new", concepts=map(str, range(20_001))),
        "INVALID_ARGUMENT", "concepts", "1 to 20000",
    ),
    "CreateVocabulary builtin": (
        "CreateVocabulary", pb.CreateVocabularyRequest(vocabulary_id="emoji", concepts=["a"]),
        "ALREADY_EXISTS", "vocabulary_id", "free",
    ),
    "DeleteVocabulary empty": (
        "DeleteVocabulary", pb.DeleteVocabularyRequest(), "INVALID_ARGUMENT", "name", "vocabularies/{id}",
    ),
    "DeleteVocabulary unknown": (
        "DeleteVocabulary", pb.DeleteVocabularyRequest(name="vocabularies/nope"), "NOT_FOUND", "name", "",
    ),
    "DeleteVocabulary builtin": (
        "DeleteVocabulary", pb.DeleteVocabularyRequest(name="vocabularies/emoji"), "INVALID_ARGUMENT", "name", "Create",
    ),
}  # fmt: skip

CASES = {
    **{f"DescribeUnits {name}": ("DescribeUnits", *case) for name, case in DESCRIBE.items()},
    **{f"LocalizeConcepts {name}": ("LocalizeConcepts", *case) for name, case in LOCALIZE.items()},
    **OTHERS,
}


@pytest.fixture(autouse=True)
def still_serves(wire: Any) -> Any:
    """After every refusal, the next good request succeeds."""
    yield
    assert wire.call("retrieval/DescribeUnits", describe()).descriptions[0].concepts


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_its_field_and_range(wire: Any, case: str) -> None:
    method, request, code, field, allowed = CASES[case]
    refusal = wire.refusal(f"retrieval/{method}", request)
    assert (refusal.code, refusal.fields) == (code, (field,)), refusal
    assert allowed in refusal.allowed, refusal
    assert field in refusal.message, refusal
    assert len(refusal.message) < 1100 and not INTERNALS.search(refusal.message + refusal.trailing), refusal


@pytest.mark.parametrize("name", ["empty", "not an image", "truncated", "header of 65535 by 65535", "bomb", "pickle"])
def test_a_bad_image_is_refused_by_its_place(wire: Any, png: bytes, bad_images: Any, name: str) -> None:
    refusal = wire.refusal("retrieval/LocalizeConcepts", localize(texts=["dog"], images=[png, bad_images[name]]))
    assert (refusal.code, refusal.fields) == ("INVALID_ARGUMENT", ("images[1]",)), refusal
    assert "32000000 pixels" in refusal.allowed
