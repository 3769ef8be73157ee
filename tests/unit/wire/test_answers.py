"""Answers come out of their messages as they went in: no field of a value is lost on the wire."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.atlas import THUMBNAILS, Atlas
from miclip.kinds import LocalizationMethod
from miclip.models.predictions import Prediction, softmax, top_predictions
from miclip.retrieval.image_trace import image_traces
from miclip.retrieval.provenance import provenance
from miclip.retrieval.search import AtlasSearcher
from miclip.v1 import aligner_pb2, resources_pb2, retrieval_pb2
from miclip.wire.activation import read_predictions, write_predictions
from miclip.wire.aligner import read_embeddings, read_trace, write_embeddings, write_trace
from miclip.wire.common import read_kind, read_provenance, short_names, write_kind, write_provenance
from miclip.wire.retrieval import (
    read_description,
    read_localize_result,
    read_record,
    write_description,
    write_localization,
    write_record,
)


@pytest.fixture
def searcher(atlas: Atlas) -> AtlasSearcher:
    return AtlasSearcher(atlas)


def single(value: Any) -> Any:
    """A value whose floats have the precision of the wire."""
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, tuple):
        return tuple(map(single, value))
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{field.name: single(getattr(value, field.name)) for field in fields(value)})
    return value


@pytest.mark.parametrize("kind", [None, "filter"])
def test_descriptions(searcher: AtlasSearcher, kind: Any) -> None:
    for value in searcher.describe("mid", [0, 39], searcher.labels, 3, kind):
        assert read_description(write_description(value), value.atlas) == single(value)


@pytest.mark.parametrize("method", ["attribution", "pattern"])
def test_localizations(searcher: AtlasSearcher, method: LocalizationMethod) -> None:
    concepts = list(searcher.labels.concepts[:2])
    values = searcher.localize(searcher.labels.embeddings[:2], ["mid"], 3, concepts=concepts, method=method)
    assert [value.concept for value in values] == concepts
    response = retrieval_pb2.LocalizeConceptsResponse(
        localizations=map(write_localization, values),
        method=write_kind(resources_pb2.LocalizationMethod, method),
        provenance=write_provenance(provenance(searcher.atlas, ["mid"])),
    )
    assert read_localize_result(response).localizations == tuple(map(single, values))


def test_the_record_of_a_unit(searcher: AtlasSearcher) -> None:
    value = searcher.unit_record("mid", 13)
    source = write_provenance(provenance(searcher.atlas, ["mid"]))
    assert read_record(retrieval_pb2.GetUnitResponse(unit=write_record(value), provenance=source)) == single(value)


def test_the_record_of_a_unit_brings_thumbnails_where_they_are_asked_for(recipe: Any, tmp_path: Path) -> None:
    made = recipe()
    row = int(made.tensors["mid"]["top_images"][13][1])
    made.add_pictures(THUMBNAILS, [b"a picture"], rows=np.array([row]))
    searcher = AtlasSearcher(made.open(tmp_path))
    value = searcher.unit_record("mid", 13, thumbnails=True)
    assert [image.thumbnail for image in value.top_images[:3]] == [b"", b"a picture", b""]
    source = write_provenance(provenance(searcher.atlas, ["mid"]))
    answer = read_record(retrieval_pb2.GetUnitResponse(unit=write_record(value), provenance=source))
    assert answer.top_images == single(value.top_images)
    assert not any(image.thumbnail for image in searcher.unit_record("mid", 13).top_images)


def test_traces_and_predictions(atlas: Atlas) -> None:
    activations = {name: atlas.layer(name).activations[:2].astype(np.float32) for name in atlas.neuron_layers}
    labels, vectors = atlas.manifest.labels[:3], atlas.label_embeddings[:3]
    for value in image_traces(atlas, activations, activations["logits"], vectors, labels, 4):
        assert read_trace(write_trace(atlas.manifest.model, value)) == single(value)
        assert read_predictions(write_predictions(value.predictions)) == single(value.predictions)


def test_provenance_and_embeddings(atlas: Atlas) -> None:
    value = provenance(atlas, atlas.layer_names, "a" * 64)
    assert read_provenance(write_provenance(value)) == value
    np.testing.assert_array_equal(read_embeddings(write_embeddings(atlas.label_embeddings)), atlas.label_embeddings)


def test_every_kind_has_the_value_that_its_name_has() -> None:
    enums = (resources_pb2.UnitEmbedding, resources_pb2.LocalizationMethod, resources_pb2.LayerKind)
    for enum in (*enums, aligner_pb2.TraceMeasure):
        assert [write_kind(enum, read_kind(enum, value)) for value in range(len(short_names(enum)))] == [
            *range(len(enum.keys()))
        ]
    assert resources_pb2.UnitEmbedding.Name(write_kind(resources_pb2.UnitEmbedding, "causal")) == (
        "UNIT_EMBEDDING_CAUSAL"
    )


def test_the_best_labels_come_first_with_their_probabilities() -> None:
    logits = np.array([0.0, 2.0, 1.0, 2.0], np.float32)
    best = top_predictions(logits, ["a", "b", "c", "d"], 2)
    probability = float(np.exp(2) / np.exp(logits.astype(float)).sum())
    assert best == tuple(Prediction(x, at, 2.0, pytest.approx(probability)) for x, at in (("b", 1), ("d", 3)))
    assert len(top_predictions(logits, ["a", "b", "c", "d"], 9)) == 4
    assert softmax(np.array([[1e4, 0.0], [0.0, -1e4]], np.float32)).tolist() == [[1, 0], [1, 0]]
