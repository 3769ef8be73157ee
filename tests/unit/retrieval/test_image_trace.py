"""What an image is about at each layer, and where a wrong concept takes over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from miclip.atlas import Atlas, normalise
from miclip.errors import InvalidInput, NotAligned
from miclip.retrieval.attribution import mechanism_embeddings
from miclip.retrieval.image_trace import image_traces, labels_of, layer_scores
from miclip.retrieval.results import ImageTrace, LayerTrace
from miclip.retrieval.search import AtlasSearcher


@pytest.fixture
def two_units() -> Any:
    """An atlas of one layer "x": E_n = diag(3, 4), centre (1, 1)."""
    layer = SimpleNamespace(
        entry=SimpleNamespace(units=2), encoder=np.diag([3.0, 4.0]).astype(np.float32), centre=np.ones(2, np.float32)
    )
    return SimpleNamespace(layer={"x": layer}.__getitem__)


def trace_of(scores: Any, layers: Sequence[str] = ()) -> ImageTrace:
    """The trace of one image with scores [L, C]; layers are called by their places where they have no names."""
    names = layers or [str(place) for place in range(len(scores))]
    rows = zip(names, scores.tolist(), strict=True)
    return ImageTrace(tuple(LayerTrace(name, tuple(row)) for name, row in rows), ())


def test_scores_are_those_computed_by_hand(two_units: Any) -> None:
    activations = np.array([[2, 2], [0, 1], [1, 1]], np.float32)  # z = (3, 4) / 5, (-1, 0), 0
    concepts = np.array([[1, 0], [0, 1], [0.6, -0.8]], np.float32)
    scores = layer_scores(two_units, {"x": activations}, concepts)
    assert scores.shape == (3, 1, 3)
    np.testing.assert_allclose(scores[:, 0], [[0.6, 0.8, -0.28], [-1, 0, -0.6], [0, 0, 0]], atol=1e-6)


def test_a_probe_rows_representation_is_its_mechanism(atlas: Atlas) -> None:
    concepts = AtlasSearcher(atlas).centre(atlas.label_embeddings)
    layers = {name: atlas.layer(name).activations for name in ("logits", "mid")}
    scores = layer_scores(atlas, layers, concepts)
    for place, name in enumerate(layers):
        np.testing.assert_allclose(scores[:, place], mechanism_embeddings(atlas.layer(name)) @ concepts.T, atol=1e-6)


def test_a_planted_takeover_is_found(atlas: Atlas) -> None:
    """Units of "mid" say one thing and the logits another: the atlas knows unit i to stand for label i % 8."""
    labels = list(atlas.manifest.labels)
    dog, cat = labels.index("dog"), labels.index("cat")
    activations = {name: np.tile(atlas.layer(name).centre, (2, 1)) for name in atlas.layer_names}
    for image, (middle, end) in enumerate([(dog, cat), (cat, dog)]):
        activations["mid"][image, middle :: len(labels)] += 2
        activations["logits"][image, end] += 2
    scores = layer_scores(atlas, activations, AtlasSearcher(atlas).centre(atlas.label_embeddings))
    assert scores.argmax(axis=2).tolist() == [[dog, cat], [cat, dog]]
    traces = [trace_of(each, atlas.layer_names) for each in scores]
    assert [each.takeover(dog, cat) for each in traces] == ["logits", None]
    assert [each.takeover(cat, dog) for each in traces] == [None, "logits"]


@pytest.mark.parametrize(
    ("lead", "layer"),
    [
        ([1, 1, 1], 0),
        ([-1, 1, 1], 1),
        ([1, -1, 1], 2),
        ([1, 1, -1], None),
        ([-1, -1, -1], None),
        ([1, 0, 1], 2),  # no nearer is not ahead
        ([1, 1, 0], None),
        ([1], 0),
    ],
)
def test_a_wrong_concept_takes_over_where_it_leads_for_good(lead: list[int], layer: int | None) -> None:
    scores = np.stack([np.full(len(lead), 9.0), np.zeros(len(lead)), np.array(lead)], axis=1)
    taken = trace_of(scores).takeover(expected=1, against=2)
    assert taken == (None if layer is None else str(layer))


@given(arrays(np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.sampled_from([-1.0, 0.0, 1.0])))
def test_takeover_is_the_first_layer_after_which_none_is_lost(scores: Any) -> None:
    ahead = [wrong > right for right, wrong in scores]
    expected = next((str(at) for at in range(len(ahead)) if all(ahead[at:])), None)
    assert trace_of(scores).takeover(0, 1) == expected


def test_an_images_scores_do_not_depend_on_its_company(atlas: Atlas) -> None:
    rows = {"mid": atlas.layer("mid").activations[:5]}
    concepts = normalise(np.eye(4, atlas.manifest.clip_dim, dtype=np.float32))
    together = layer_scores(atlas, rows, concepts)
    alone = layer_scores(atlas, {"mid": rows["mid"][2:3]}, concepts[1:2])
    np.testing.assert_allclose(alone[0, 0, 0], together[2, 0, 1], atol=1e-6)


def test_at_the_logits_the_order_is_that_of_the_prediction(atlas: Atlas) -> None:
    """Of any image, whatever the encoder makes of its logits, and also where logits are not aligned."""
    labels = tuple(atlas.manifest.labels)
    activations = {name: atlas.layer(name).activations for name in ("mid", "logits")}
    logits = atlas.layer("logits").activations.astype(np.float32)
    for captured in (activations, {"mid": activations["mid"]}, {}):
        traces = image_traces(atlas, captured, logits, atlas.label_embeddings, labels, len(labels))
        for trace, row in zip(traces, logits, strict=True):
            end = trace.layers[-1]
            assert (end.layer, end.measure) == ("logits", "probability")
            assert np.argsort(end.scores, kind="stable").tolist() == np.argsort(row, kind="stable").tolist()
            assert max(end.scores) == pytest.approx(trace.predictions[0].probability, abs=1e-6)
            best, second = trace.predictions[0].index, trace.predictions[1].index
            assert trace.takeover(second, best) is not None
            assert trace.takeover(best, second) is None
        assert [layer.layer for layer in traces[0].layers] == [*(["mid"] if captured else []), "logits"]


def test_a_concept_is_the_label_of_its_text_else_the_nearest(atlas: Atlas) -> None:
    labels = list(atlas.manifest.labels)
    cat, bus = labels.index("cat"), labels.index("bus")
    vectors = atlas.label_embeddings[[bus, cat, bus]]
    assert labels_of(atlas, [" Dog ", "a kitten", "bus"], vectors) == ("dog", "cat", "bus")


def test_what_the_atlas_does_not_cover_is_refused(atlas: Atlas) -> None:
    concepts = np.zeros((1, atlas.manifest.clip_dim), np.float32)
    with pytest.raises(NotAligned, match="mid"):
        layer_scores(atlas, {"nowhere": np.zeros((1, 40))}, concepts)
    with pytest.raises(InvalidInput, match=r"\[images, 40\]"):
        layer_scores(atlas, {"mid": np.zeros((1, 39))}, concepts)


def test_a_trace_needs_no_torch() -> None:
    """Neither the aligner's start nor a command that asks a server waits for it."""
    code = "import sys, miclip.retrieval.image_trace, miclip.cli.trace; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
