"""Embeddings and atlases, as the aligner serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from miclip.atlas import Atlas
from miclip.demo.assets import ATLASES
from miclip.names import UnitName
from miclip.v1 import aligner_pb2 as pb
from miclip.v1 import resources_pb2
from tests.names import RESNET_NAME as MODEL


def embed(wire: Any, *texts: str) -> Any:
    answer = wire.call("aligner/EmbedTexts", pb.EmbedTextsRequest(texts=texts))
    return np.array([embedding.values for embedding in answer.embeddings])


def active_atlas(wire: Any, server: Any) -> Atlas:
    atlases = wire.call("aligner/ListAtlases", pb.ListAtlasesRequest(model=MODEL)).atlases
    (name,) = (atlas.name for atlas in atlases if atlas.active)
    atlas_id = name.removeprefix("atlases/")
    roots = [Path(server.data_dir) / "atlases", ATLASES]
    return next(Atlas.open(root, atlas_id) for root in roots if (root / atlas_id).is_dir())


@pytest.mark.slow
def test_texts_and_images_are_embedded_as_the_library_does(wire: Any, png: bytes, dog: bytes) -> None:
    from miclip.catalogue import load_clip
    from miclip.images import decode_image

    clip = load_clip("cpu")
    texts = ["dog", "a fire engine", "dog", "été ☃"]
    vectors = embed(wire, *texts)
    np.testing.assert_allclose(vectors, clip.embed_texts(texts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    answer = wire.call("aligner/EmbedImages", pb.EmbedImagesRequest(images=[png, dog]))
    images = [decode_image(data, field="image") for data in (png, dog)]
    vectors = np.array([embedding.values for embedding in answer.embeddings])
    np.testing.assert_allclose(vectors, clip.embed_images(images), atol=1e-5)
    assert answer.clip_id == clip.clip_id


def test_a_text_gives_the_same_numbers_alone_in_company_and_again(wire: Any) -> None:
    alone = embed(wire, "lighthouse keeper")
    company = embed(wire, "moon", "lighthouse keeper", "x" * 512, "  lighthouse keeper  ")
    assert np.array_equal(alone[0], company[1]) and np.array_equal(alone[0], company[3])
    assert np.array_equal(embed(wire, "lighthouse keeper"), alone)


def test_embeddings_are_cached_by_model_and_text_without_the_text_itself(wire: Any, server: Any) -> None:
    answer = wire.call("aligner/EmbedTexts", pb.EmbedTextsRequest(texts=["a secret walrus"]))
    with redis.from_url(server.redis_url) as client:
        kept = client.hgetall("{miclip}:embeddings:new")
    wanted = np.array(answer.embeddings[0].values, "<f4").tobytes()
    (key,) = (key.decode() for key, value in kept.items() if value == wanted)
    assert answer.clip_id in key and "walrus" not in key


@pytest.mark.parametrize("kind", ["filter", "pattern", "causal"])
def test_units_are_embedded_as_the_atlas_has_them(wire: Any, server: Any, kind: str) -> None:
    atlas, places = active_atlas(wire, server), [("layer4", 7), ("logits", 0), ("layer4", 0)]
    answer = wire.call(
        "aligner/EmbedUnits",
        pb.EmbedUnitsRequest(
            units=[f"{MODEL}/layers/{layer}/units/{unit}" for layer, unit in places],
            embedding=f"UNIT_EMBEDDING_{kind.upper()}",
        ),
    )
    for (layer, unit), found in zip(places, answer.embeddings, strict=True):
        raw = np.asarray(getattr(atlas.layer(layer), kind)[unit], np.float64)
        np.testing.assert_allclose(found.values, raw / np.linalg.norm(raw), atol=1e-6)
    provenance = answer.provenance
    assert provenance.atlas == f"atlases/{atlas.atlas_id}"
    assert list(provenance.layers) == [f"{MODEL}/layers/layer4", f"{MODEL}/layers/logits"]
    files = atlas.manifest.files
    assert list(provenance.encoder_sha256) == [
        files[atlas.layer(name).entry.file].sha256 for name in ("layer4", "logits")
    ]


def test_the_default_embedding_is_that_of_the_layer(wire: Any, server: Any) -> None:
    atlas = active_atlas(wire, server)
    for layer in atlas.layer_names:
        kind = atlas.layer(layer).entry.unit_embedding
        unit = str(UnitName(MODEL.removeprefix("models/"), layer, 1))
        default = wire.call("aligner/EmbedUnits", pb.EmbedUnitsRequest(units=[unit]))
        chosen = wire.call(
            "aligner/EmbedUnits", pb.EmbedUnitsRequest(units=[unit], embedding=f"UNIT_EMBEDDING_{kind.upper()}")
        )
        assert default == chosen


def test_an_atlas_says_what_it_covers(wire: Any, server: Any) -> None:
    atlas = active_atlas(wire, server)
    manifest = atlas.manifest
    shown = wire.call("aligner/GetAtlas", pb.GetAtlasRequest(name=f"atlases/{atlas.atlas_id}")).atlas
    assert (shown.model, shown.active) == (MODEL, True)
    assert (shown.weights_sha256, shown.clip_id) == (manifest.weights_sha256, manifest.clip_id)
    assert [layer.name for layer in shown.layers] == [f"{MODEL}/layers/{name}" for name in atlas.layer_names]
    assert [layer.units for layer in shown.layers] == [entry.units for entry in manifest.layers]
    assert shown.layers[-1].kind == resources_pb2.LAYER_KIND_LOGITS
    assert shown.settings.steps == manifest.settings["steps"]
    assert shown.bytes == sum(entry.bytes for entry in manifest.files.values())


def test_atlases_are_listed_page_by_page_each_once(wire: Any) -> None:
    everything = wire.call("aligner/ListAtlases", pb.ListAtlasesRequest()).atlases
    assert [atlas.name for atlas in everything] == sorted(atlas.name for atlas in everything)
    found, token = [], ""
    while True:
        page = wire.call("aligner/ListAtlases", pb.ListAtlasesRequest(page_size=1, page_token=token))
        found += page.atlases
        token = page.next_page_token
        if not token:
            break
    assert found == list(everything)
    active = [atlas.model for atlas in found if atlas.active]
    assert len(active) == len(set(active)) and MODEL in active
