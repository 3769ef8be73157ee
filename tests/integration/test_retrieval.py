"""What units mean and where concepts are, over gRPC; compared with NumPy on the atlas's own arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.atlas import Atlas
from miclip.demo.assets import ATLASES
from miclip.v1 import aligner_pb2, resources_pb2
from miclip.v1 import retrieval_pb2 as pb
from tests.names import RESNET_NAME as MODEL

WORDS = ("dog", "cat", "fruit", "vehicle", "musical instrument", "red", "night sky", "house")
METHODS = ("filter", "pattern", "causal")


def unit_name(layer: str, unit: int) -> str:
    return f"{MODEL}/layers/{layer}/units/{unit}"


def describe(wire: Any, units: list[str], **fields: Any) -> Any:
    return wire.call("retrieval/DescribeUnits", pb.DescribeUnitsRequest(units=units, **fields))


def localize(wire: Any, **fields: Any) -> Any:
    return wire.call("retrieval/LocalizeConcepts", pb.LocalizeConceptsRequest(model=MODEL, **fields))


def embed(wire: Any, texts: Any) -> Any:
    answer = wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=texts))
    return np.array([embedding.values for embedding in answer.embeddings], np.float64)


def unit_length(vectors: Any) -> Any:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def centred(atlas: Atlas, texts: Any) -> Any:
    return unit_length(np.asarray(texts, np.float64) - atlas.label_embeddings.astype(np.float64).mean(0))


@pytest.fixture
def atlas(wire: Any, server: Any) -> Atlas:
    """The atlas that answers now, opened without the server."""
    answer = describe(wire, [unit_name("logits", 0)])
    atlas_id = answer.provenance.atlas.removeprefix("atlases/")
    roots = [Path(server.data_dir) / "atlases", ATLASES]
    return next(Atlas.open(root, atlas_id) for root in roots if (root / atlas_id).is_dir())


@pytest.fixture
def vocabulary(wire: Any) -> Any:
    """A vocabulary of one's own, gone after the test."""
    name = "vocabularies/test-words"
    request = pb.CreateVocabularyRequest(vocabulary_id="test-words", concepts=WORDS)
    yield wire.call("retrieval/CreateVocabulary", request).vocabulary
    kept = wire.call("retrieval/ListVocabularies", pb.ListVocabulariesRequest()).vocabularies
    if name in [each.name for each in kept]:
        wire.call("retrieval/DeleteVocabulary", pb.DeleteVocabularyRequest(name=name))


@pytest.mark.parametrize("kind", METHODS)
def test_describe_agrees_with_a_brute_force_cosine(wire: Any, atlas: Atlas, kind: str) -> None:
    texts = centred(atlas, embed(wire, WORDS))
    for layer in ("layer4", "logits"):
        units = [5, 0, 77]
        answer = describe(
            wire,
            [unit_name(layer, unit) for unit in units],
            concepts=pb.ConceptList(concepts=WORDS),
            top_k=len(WORDS),
            embedding=f"UNIT_EMBEDDING_{kind.upper()}",
        )
        for unit, found in zip(units, answer.descriptions, strict=True):
            cosines = texts @ unit_length(getattr(atlas.layer(layer), kind)[unit])
            scores = np.array([concept.score for concept in found.concepts])
            np.testing.assert_allclose(scores, np.sort(cosines)[::-1], atol=1e-5)
            np.testing.assert_allclose(scores, [cosines[concept.index] for concept in found.concepts], atol=1e-5)
            assert [concept.concept for concept in found.concepts] == [WORDS[c.index] for c in found.concepts]
            assert found.margin == pytest.approx(scores[0] - scores[1], abs=1e-5)
            assert 0 <= found.null_percentile <= 100


@pytest.mark.parametrize("method", METHODS)
def test_localize_in_the_shared_space_agrees_with_a_brute_force_cosine(wire: Any, atlas: Atlas, method: str) -> None:
    layers = ["layer3", "layer4"]
    answer = localize(
        wire,
        texts=["dog", "fruit"],
        layers=[f"{MODEL}/layers/{layer}" for layer in layers],
        method=f"LOCALIZATION_METHOD_{method.upper()}",
        top_k=20,
    )
    queries = centred(atlas, embed(wire, ["dog", "fruit"]))
    names = [unit_name(layer, unit) for layer in layers for unit in range(atlas.layer(layer).entry.units)]
    units = np.concatenate([unit_length(getattr(atlas.layer(layer), method)) for layer in layers])
    for query, found in zip(queries, answer.localizations, strict=True):
        cosines = dict(zip(names, units @ query, strict=True))
        scores = [unit.score for unit in found.units]
        np.testing.assert_allclose(scores, np.sort(list(cosines.values()))[::-1][:20], atol=1e-5)
        np.testing.assert_allclose(scores, [cosines[unit.unit] for unit in found.units], atol=1e-5)
    assert answer.provenance.atlas == f"atlases/{atlas.atlas_id}"


def test_a_units_answer_does_not_depend_on_the_other_units_asked(wire: Any) -> None:
    names = [unit_name("layer4", unit) for unit in range(40)] + [unit_name("logits", 3), unit_name("layer1", 3)]
    together = describe(wire, names).descriptions
    assert [found.unit for found in together] == names
    for place in (0, 17, 40, 41):
        assert describe(wire, [names[place]]).descriptions[0] == together[place]


def test_a_concepts_causal_score_is_the_units_attribution_to_it(wire: Any, atlas: Atlas) -> None:
    names = [unit_name("layer4", unit) for unit in (3, 17, 200)]
    for found in describe(wire, names, concepts=pb.ConceptList(concepts=WORDS)).descriptions:
        for concept in found.concepts[:2]:
            located = localize(wire, texts=[concept.concept], top_k=256).localizations[0].units
            scores = {unit.unit: unit.score for unit in located}
            assert concept.causal_score == pytest.approx(scores[found.unit], abs=1e-5)


def test_a_unit_is_read_with_the_evidence_for_its_label(wire: Any) -> None:
    name = unit_name("layer4", 17)
    unit = wire.call("retrieval/GetUnit", pb.GetUnitRequest(name=name)).unit
    (described,) = describe(wire, [name]).descriptions
    assert unit.description == described
    assert unit.causal_score == described.concepts[0].causal_score


def test_a_querys_units_do_not_depend_on_the_other_queries(wire: Any, dog: bytes) -> None:
    together = localize(wire, texts=["cat", "dog"], images=[dog], top_k=10).localizations
    assert [found.text for found in together] == ["cat", "dog", ""]
    assert localize(wire, texts=["dog"], top_k=10).localizations[0] == together[1]
    alone = localize(wire, images=[dog], top_k=10).localizations[0]
    assert [unit.unit for unit in alone.units] == [unit.unit for unit in together[2].units]


def test_a_label_is_trusted_and_what_no_image_shows_is_doubtful(wire: Any, dog: bytes) -> None:
    known, unknown, image = localize(wire, texts=["dog", "tax declaration"], images=[dog]).localizations
    assert not known.evidence.doubtful
    assert known.evidence.null_percentile == 100
    assert known.evidence.labels[0].label == image.evidence.labels[0].label == "dog"
    assert known.evidence.labels[0].share > 0.9
    assert unknown.evidence.doubtful
    assert unknown.evidence.relevance < known.evidence.relevance
    assert len(unknown.units) == 5


def test_cosines_have_no_evidence(wire: Any) -> None:
    (found,) = localize(wire, texts=["dog"], method=resources_pb2.LOCALIZATION_METHOD_CAUSAL).localizations
    assert not found.HasField("evidence")


def test_units_of_the_logits_are_described_by_their_own_label(wire: Any, atlas: Atlas) -> None:
    labels = atlas.manifest.labels
    found = describe(wire, [unit_name("logits", unit) for unit in range(len(labels))], top_k=1).descriptions
    right = [unit.concepts[0].concept == label for unit, label in zip(found, labels, strict=True)]
    assert np.mean(right) >= 0.8
    assert np.mean([unit.abstained for unit in found]) <= 0.3


def test_localize_finds_the_label_unit_of_a_concept_and_of_an_image(wire: Any, atlas: Atlas, dog: bytes) -> None:
    unit = unit_name("logits", atlas.manifest.labels.index("dog"))
    answer = localize(wire, texts=["dog", "hound"], images=[dog], layers=[f"{MODEL}/layers/logits"], top_k=5)
    for found in answer.localizations[:1]:
        assert unit in [each.unit for each in found.units]
    assert all(len(found.units) == 5 for found in answer.localizations)


def test_by_default_the_last_layer_before_the_logits_is_searched_and_more_than_there_are_gives_all(
    wire: Any, atlas: Atlas
) -> None:
    answer = localize(wire, texts=["dog"], top_k=1000)
    last = [entry for entry in atlas.manifest.layers if entry.kind not in ("features", "logits")][-1]
    units = [unit.unit for unit in answer.localizations[0].units]
    assert len(units) == len(set(units)) == last.units
    assert all(f"/layers/{last.name}/" in unit for unit in units)
    assert [layer.rpartition("/")[2] for layer in answer.provenance.layers] == [last.name]
    scores = [unit.score for unit in answer.localizations[0].units]
    assert scores == sorted(scores, reverse=True)


def test_a_units_record_is_that_of_the_atlas(wire: Any, atlas: Atlas) -> None:
    unit = wire.call("retrieval/GetUnit", pb.GetUnitRequest(name=unit_name("layer4", 9))).unit
    layer = atlas.layer("layer4")
    activations = layer.activations[:, 9].astype(np.float64)
    assert unit.maximum == pytest.approx(activations.max(), rel=2e-3)
    assert unit.mean == pytest.approx(activations.mean(), rel=2e-3)
    assert unit.fraction_nonzero == pytest.approx((activations != 0).mean(), abs=1e-3)
    assert sum(unit.histogram.counts) == len(activations)
    assert len(unit.histogram.edges) == len(unit.histogram.counts) + 1
    assert unit.top_images[0].image == atlas.probe_images[int(layer.top_images[9, 0])]
    values = [image.value for image in unit.top_images]
    assert values == sorted(values, reverse=True)
    cosines = layer.embedding() @ layer.embedding()[9]
    cosines[9] = -2
    assert unit.neighbors[0].unit == unit_name("layer4", int(cosines.argmax()))
    assert unit.neighbors[0].score == pytest.approx(cosines.max(), abs=1e-5)
    assert unit.description == describe(wire, [unit.name]).descriptions[0]
    assert np.isfinite(unit.causal_score)


def test_units_are_listed_page_by_page_each_once(wire: Any, atlas: Atlas) -> None:
    found, token = [], ""
    while True:
        request = pb.ListUnitsRequest(parent=f"{MODEL}/layers/layer4", page_size=100, page_token=token)
        page = wire.call("retrieval/ListUnits", request)
        found += page.units
        token = page.next_page_token
        if not token:
            break
    units = atlas.layer("layer4").entry.units
    assert page.total_size == units
    assert [unit.name for unit in found] == [unit_name("layer4", unit) for unit in range(units)]
    np.testing.assert_allclose([unit.maximum for unit in found], atlas.layer("layer4").maximum, rtol=1e-6)
    assert not found[0].top_images


def test_a_kept_vocabulary_describes_as_the_same_words_in_the_request_do(wire: Any, vocabulary: Any) -> None:
    units = [unit_name("layer4", unit) for unit in range(10)]
    assert (vocabulary.size, vocabulary.builtin) == (len(WORDS), False)
    kept = describe(wire, units, vocabulary=vocabulary.name)
    given = describe(wire, units, concepts=pb.ConceptList(concepts=WORDS))
    assert kept.descriptions == given.descriptions
    assert kept.provenance.vocabulary_sha256 == given.provenance.vocabulary_sha256 == vocabulary.sha256


def test_a_vocabulary_exists_once_is_listed_and_is_gone_after_its_deletion(wire: Any, vocabulary: Any) -> None:
    refusal = wire.refusal(
        "retrieval/CreateVocabulary", pb.CreateVocabularyRequest(vocabulary_id="test-words", concepts=["other"])
    )
    assert (refusal.code, refusal.fields) == ("ALREADY_EXISTS", ("vocabulary_id",))
    listed = wire.call("retrieval/ListVocabularies", pb.ListVocabulariesRequest()).vocabularies
    assert vocabulary in listed
    assert {each.name for each in listed if each.builtin} == {
        f"vocabularies/{name}" for name in ("emoji", "imagenet", "model-labels")
    }
    assert [each.name for each in listed] == sorted(each.name for each in listed)
    describe(wire, [unit_name("layer4", 0)], vocabulary=vocabulary.name)
    wire.call("retrieval/DeleteVocabulary", pb.DeleteVocabularyRequest(name=vocabulary.name))
    gone = pb.DescribeUnitsRequest(units=[unit_name("layer4", 0)], vocabulary=vocabulary.name)
    assert wire.refusal("retrieval/DescribeUnits", gone).code == "NOT_FOUND"
    made = pb.CreateVocabularyRequest(vocabulary_id="test-words", concepts=["moon"])
    wire.call("retrieval/CreateVocabulary", made)
    (found,) = describe(wire, [unit_name("layer4", 0)], vocabulary=vocabulary.name).descriptions
    assert [concept.concept for concept in found.concepts] == ["moon"], "not the words that were there before"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emoji", "imagenet"])
def test_a_builtin_vocabulary_describes(wire: Any, name: str) -> None:
    unit = unit_name("logits", 1)
    answer = describe(wire, [unit], vocabulary=f"vocabularies/{name}", top_k=7)
    assert len(answer.descriptions[0].concepts) == 7
    listed = wire.call("retrieval/ListVocabularies", pb.ListVocabulariesRequest()).vocabularies
    (vocabulary,) = (each for each in listed if each.name == f"vocabularies/{name}")
    assert answer.provenance.vocabulary_sha256 == vocabulary.sha256
    assert all(concept.index < vocabulary.size for concept in answer.descriptions[0].concepts)


def test_the_time_of_every_stage_is_told(wire: Any) -> None:
    for answer in (describe(wire, [unit_name("layer4", 0)]), localize(wire, texts=["dog"])):
        assert "search" in [timing.stage for timing in answer.timings]
        assert all(0 <= timing.seconds < 60 for timing in answer.timings)
