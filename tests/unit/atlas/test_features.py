"""Promises of the atlas on features of dictionaries: sparse on disk, and searched like neurons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.alignment.features import sparse_tensors
from miclip.atlas import SHARED, Atlas, compute_statistics, normalise, null_statistics
from miclip.errors import BadArtefact, NotAligned
from miclip.retrieval.search import AtlasSearcher

LAYER, FEATURES = "mid/dictionaries/k3", 64


def planted(recipe: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """An atlas whose feature i fires on images of label i % 8, and carries their logit; with codes and attributions."""
    made, rng = recipe(), np.random.default_rng(7)
    shared, mid = made.tensors[SHARED], made.tensors["mid"]
    concept = np.arange(FEATURES) % len(made.labels)
    driven = concept[None] == np.asarray(shared["predicted"])[:, None]
    codes = np.where(driven & (rng.random(driven.shape) < 0.6), 1 + rng.random(driven.shape), 0.0).astype(np.float32)
    codes += np.where(rng.random(driven.shape) < 0.02, 0.2, 0.0).astype(np.float32)
    attributions = codes * (driven + 0.05 * rng.standard_normal(driven.shape)).astype(np.float32)
    z = normalise((mid["activations"] - mid["centre"]) @ mid["encoder"].T)
    causal = (attributions - attributions.mean(0)).T @ z / len(z)
    texts = np.asarray(shared["label_embeddings"])
    made.tensors[LAYER] = {
        "filter": causal, "pattern": (codes - codes.mean(0)).T @ z / len(z), "causal": causal,
        **sparse_tensors(codes, attributions), **compute_statistics(codes),
        **null_statistics(normalise(causal).T, texts, 500),
    }  # fmt: skip
    made.manifest["layers"].insert(1, {
        "name": LAYER, "kind": "features", "units": FEATURES, "unit_embedding": "causal",
        "dictionary": {"sha256": "d" * 64, "quality": {"l0": 3.0}}, "nonzero": int((codes > 0).sum()),
    })  # fmt: skip
    return made, codes, attributions


def test_sparse_rows_are_read_back_as_they_were(recipe: Any, tmp_path: Path) -> None:
    made, codes, attributions = planted(recipe)
    atlas = made.open(tmp_path)
    layer = atlas.layer(LAYER)
    np.testing.assert_array_equal(layer.activations, codes.astype(np.float16))
    expected = np.where(codes > 0, attributions, 0).astype(np.float16)
    np.testing.assert_array_equal(layer.attributions, expected)
    rows = np.array([3, 17, 200])
    np.testing.assert_array_equal(layer.attribution_rows[rows].toarray(), expected[rows])
    assert atlas.layer_names == ("mid", LAYER, "logits")
    assert (atlas.neuron_layers, atlas.default_layer) == (("mid", "logits"), "mid")
    assert layer.entry.base == "mid"
    with pytest.raises(NotAligned, match="through their layer 'mid'"):
        _ = layer.encoder


def test_features_are_found_and_described_by_what_was_planted(recipe: Any, tmp_path: Path) -> None:
    made, codes, attributions = planted(recipe)
    searcher = AtlasSearcher(made.open(tmp_path))
    labels, texts = made.labels, np.asarray(made.tensors[SHARED]["label_embeddings"], np.float32)
    found = searcher.describe(LAYER, range(FEATURES), searcher.labels, top_k=1)
    right = [each.concepts[0].concept == labels[each.unit % len(labels)] for each in found]
    assert np.mean(right) == 1.0
    for place, hits in enumerate(searcher.localize(texts, [LAYER], top_k=8)):
        assert {unit.unit % len(labels) for unit in hits.units} == {place}
    # Brute force of the attribution store, in NumPy
    expected = np.where(codes > 0, attributions, 0).astype(np.float16).astype(np.float64)
    scores = searcher.attribution_scores(texts[2], LAYER)
    neurons = searcher.attribution_scores(texts[2], "mid")
    own = searcher.atlas.layer("mid").attributions.astype(np.float64)
    weights = np.linalg.lstsq(own.T, neurons.astype(np.float64), rcond=None)[0]
    assert np.corrcoef(weights @ expected, scores)[0, 1] > 0.99  # the rows are weighed as those of the layer below


def test_an_answer_for_features_does_not_depend_on_the_others_asked(recipe: Any, tmp_path: Path) -> None:
    searcher = AtlasSearcher(planted(recipe)[0].open(tmp_path))
    together = searcher.describe(LAYER, [5, 60, 31, 12], searcher.labels, top_k=3)
    alone = [searcher.describe(LAYER, [unit], searcher.labels, top_k=3)[0] for unit in (5, 60, 31, 12)]
    assert together == alone


def no_base(made: Any) -> None:
    made.manifest["layers"] = [entry for entry in made.manifest["layers"] if entry["name"] != "mid"]
    del made.tensors["mid"]


def no_dictionary(made: Any) -> None:
    del made.manifest["layers"][1]["dictionary"]


def rows_out_of_order(made: Any) -> None:
    made.tensors[LAYER]["row_ends"] = made.tensors[LAYER]["row_ends"][::-1].copy()


def a_feature_too_many(made: Any) -> None:
    made.tensors[LAYER]["features"][0] = FEATURES


@pytest.mark.parametrize("change", [no_base, no_dictionary, rows_out_of_order, a_feature_too_many])
def test_features_that_do_not_fit_are_refused(recipe: Any, tmp_path: Path, change: Callable[[Any], None]) -> None:
    made, *_ = planted(recipe)
    change(made)
    with pytest.raises(BadArtefact):
        made.open(tmp_path)


def test_an_atlas_of_schema_1_is_still_read(recipe: Any, tmp_path: Path) -> None:
    """Its encoders are of float32."""
    from safetensors.numpy import load_file, save_file

    path = tmp_path / recipe().write(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["schema_version"] = 1
    for entry in manifest["layers"]:
        file = path / entry["file"]
        save_file({**(tensors := load_file(file)), "encoder": tensors["encoder"].astype(np.float32)}, file)
        manifest["files"][entry["file"]] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for key in ("dictionary", "nonzero"):
            del entry[key]
    (path / "manifest.json").write_text(json.dumps(manifest))
    old = path.rename(tmp_path / sha256(path / "manifest.json"))
    assert Atlas.open(tmp_path, old.name).layer("mid").encoder.dtype == np.float32


def sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
