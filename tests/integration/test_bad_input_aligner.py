"""Bad input to every RPC of the aligner gets the right status, names the field and the range, and harms nobody."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from miclip.v1 import aligner_pb2 as pb
from tests.names import RESNET_NAME as MODEL

LAYER = f"{MODEL}/layers/layer4"
UNIT = f"{LAYER}/units/0"
LONG = "x" * 1_000_000
HUGE = 2**32 - 1
INTERNALS = re.compile(r"Traceback|\.py\b|site-packages|/tmp/|/home/|ServeReplica|ray::")
TRAVERSAL = "models/../../etc/passwd"
NO_ATLAS = f"atlases/{'0' * 64}"
INVALID = "INVALID_ARGUMENT"


def units(*names: str, **fields: Any) -> pb.EmbedUnitsRequest:
    return pb.EmbedUnitsRequest(units=names, **fields)


def texts(*values: str, **fields: Any) -> pb.EmbedTextsRequest:
    return pb.EmbedTextsRequest(texts=values, **fields)


def trace(**fields: Any) -> pb.TraceImagesRequest:
    return pb.TraceImagesRequest(**{"model": MODEL, "images": [b"x"], "concepts": ["dog"], **fields})


def align(**fields: Any) -> pb.CreateAlignmentRequest:
    return pb.CreateAlignmentRequest(**{"model": MODEL, **fields})


def tuned(**settings: Any) -> pb.CreateAlignmentRequest:
    return align(settings=pb.AlignmentSettings(**settings))


# what is wrong → RPC, request, status, field, part of the allowed range
CASES = {
    "no unit": ("EmbedUnits", units(), INVALID, "units", "1 to 1000"),
    "too many units": ("EmbedUnits", units(*[UNIT] * 1001), INVALID, "units", "1 to 1000"),
    "unit traversal": ("EmbedUnits", units(TRAVERSAL), INVALID, "units[0]", "models/{model}/layers"),
    "megabyte of a unit": ("EmbedUnits", units(UNIT, LONG), INVALID, "units[1]", "models/{model}/layers"),
    "unit of an unknown model": ("EmbedUnits", units("models/x/layers/a/units/0"), "NOT_FOUND", "units[0]", "emoji"),
    "unit of an unknown layer": ("EmbedUnits", units(f"{MODEL}/layers/x/units/0"), "NOT_FOUND", "units[0]", "layer4"),
    "unit out of range": ("EmbedUnits", units(UNIT, f"{LAYER}/units/256"), INVALID, "units[1]", "0 to 255"),
    "units of two models": ("EmbedUnits", units(UNIT, "models/x/layers/a/units/0"), INVALID, "units[1]", "one model"),
    "unknown embedding": ("EmbedUnits", units(UNIT, embedding=77), INVALID, "embedding", "UNIT_EMBEDDING_FILTER"),
    "no text": ("EmbedTexts", texts(), INVALID, "texts", "1 to 256"),
    "empty text": ("EmbedTexts", texts("a", ""), INVALID, "texts[1]", "1 to 512"),
    "white text": ("EmbedTexts", texts(" \t\n "), INVALID, "texts[0]", "1 to 512"),
    "control characters": ("EmbedTexts", texts("a\0b"), INVALID, "texts[0]", "1 to 512"),
    "megabyte of text": ("EmbedTexts", texts("a", LONG), INVALID, "texts[1]", "1 to 512"),
    "too many texts": ("EmbedTexts", texts(*["a"] * 257), INVALID, "texts", "1 to 256"),
    "a path as a CLIP's id": ("EmbedTexts", texts("a", clip_id="../x"), INVALID, "clip_id", "64"),
    "a megabyte of a CLIP's id": ("EmbedTexts", texts("a", clip_id=LONG), INVALID, "clip_id", "64"),
    "no image": ("EmbedImages", pb.EmbedImagesRequest(), INVALID, "images", "1 to 64"),
    "too many images": ("EmbedImages", pb.EmbedImagesRequest(images=[b"x"] * 65), INVALID, "images", "1 to 64"),
    "trace no image": ("TraceImages", trace(images=[]), INVALID, "images", "1 to 64"),
    "trace too many images": ("TraceImages", trace(images=[b"x"] * 65), INVALID, "images", "1 to 64"),
    "trace no concept": ("TraceImages", trace(concepts=[]), INVALID, "concepts", "1 to 256"),
    "trace too many concepts": ("TraceImages", trace(concepts=["a"] * 257), INVALID, "concepts", "1 to 256"),
    "trace an empty concept": ("TraceImages", trace(concepts=["a", " "]), INVALID, "concepts[1]", "1 to 512"),
    "trace a megabyte of a concept": ("TraceImages", trace(concepts=["a", LONG]), INVALID, "concepts[1]", "1 to 512"),
    "trace control characters": ("TraceImages", trace(concepts=["a\0b"]), INVALID, "concepts[0]", "1 to 512"),
    "trace no model": ("TraceImages", trace(model=""), INVALID, "model", "models/{model}"),
    "trace model traversal": ("TraceImages", trace(model=TRAVERSAL), INVALID, "model", "models/{model}"),
    "trace unknown model": ("TraceImages", trace(model="models/nope"), "NOT_FOUND", "model", "emoji-resnet"),
    "trace top 0": ("TraceImages", trace(top_k=0), INVALID, "top_k", "1 to 1000"),
    "trace top too many": ("TraceImages", trace(top_k=HUGE), INVALID, "top_k", "1 to 1000"),
    "no model": ("CreateAlignment", pb.CreateAlignmentRequest(), INVALID, "model", "models/{model}"),
    "model traversal": ("CreateAlignment", align(model=TRAVERSAL), INVALID, "model", "models/{model}"),
    "megabyte of a model": ("CreateAlignment", align(model=LONG), INVALID, "model", "models/{model}"),
    "unknown model": ("CreateAlignment", align(model="models/nope"), "NOT_FOUND", "model", "emoji-resnet"),
    "unknown probe set": ("CreateAlignment", align(probe_set="nope"), INVALID, "probe_set", "demo"),
    "path as probe set": ("CreateAlignment", align(probe_set="../../etc"), INVALID, "probe_set", "demo"),
    "megabyte of a probe set": ("CreateAlignment", align(probe_set=LONG), INVALID, "probe_set", "demo"),
    "a file as a CLIP": ("CreateAlignment", align(clip="/etc/passwd"), INVALID, "clip", "the name or id"),
    "megabyte of a CLIP": ("CreateAlignment", align(clip=LONG), INVALID, "clip", "the name or id"),
    "unknown layer": ("CreateAlignment", align(layers=[f"{MODEL}/layers/x"]), "NOT_FOUND", "layers[0]", "layer4"),
    "layer of another model": ("CreateAlignment", align(layers=["models/x/layers/a"]), INVALID, "layers[0]", "layer4"),
    "layer twice": ("CreateAlignment", align(layers=[LAYER, LAYER]), INVALID, "layers[1]", "once"),
    "0 steps": ("CreateAlignment", tuned(steps=0), INVALID, "settings.steps", "1 to 100000"),
    "too many steps": ("CreateAlignment", tuned(steps=HUGE), INVALID, "settings.steps", "1 to 100000"),
    "weight NaN": ("CreateAlignment", tuned(output_weight=math.nan), INVALID, "settings.output_weight", "0 to 100"),
    "weight 1e38": ("CreateAlignment", tuned(input_weight=1e38), INVALID, "settings.input_weight", "0 to 100"),
    "negative weight": ("CreateAlignment", tuned(input_weight=-1), INVALID, "settings.input_weight", "0 to 100"),
    "both weights 0": (
        "CreateAlignment", tuned(input_weight=0, output_weight=0), INVALID, "settings.output_weight", "above 0",
    ),
    "temperature 0": ("CreateAlignment", tuned(temperature=0), INVALID, "settings.temperature", "0.001 to 1"),
    "temperature 1e-300": ("CreateAlignment", tuned(temperature=1e-300), INVALID, "settings.temperature", "0.001 to 1"),
    "temperature inf": ("CreateAlignment", tuned(temperature=math.inf), INVALID, "settings.temperature", "0.001 to 1"),
    "get no alignment": ("GetAlignment", pb.GetAlignmentRequest(), INVALID, "name", "alignments/{id}"),
    "get unknown alignment": ("GetAlignment", pb.GetAlignmentRequest(name="alignments/x"), "NOT_FOUND", "name", ""),
    "alignment traversal": (
        "GetAlignment", pb.GetAlignmentRequest(name="alignments/../x"), INVALID, "name", "alignments/{id}",
    ),
    "cancel unknown alignment": (
        "CancelAlignment", pb.CancelAlignmentRequest(name="alignments/x"), "NOT_FOUND", "name", "",
    ),
    "cancel a megabyte": (
        "CancelAlignment", pb.CancelAlignmentRequest(name=LONG), INVALID, "name", "alignments/{id}",
    ),
    "watch unknown alignment": (
        "WatchAlignment", pb.WatchAlignmentRequest(name="alignments/x"), "NOT_FOUND", "name", "",
    ),
    "watch nothing": ("WatchAlignment", pb.WatchAlignmentRequest(), INVALID, "name", "alignments/{id}"),
    "alignments page": ("ListAlignments", pb.ListAlignmentsRequest(page_size=HUGE), INVALID, "page_size", "1000"),
    "alignments token": ("ListAlignments", pb.ListAlignmentsRequest(page_token="%"), INVALID, "page_token", ""),
    "atlases page": ("ListAtlases", pb.ListAtlasesRequest(page_size=HUGE), INVALID, "page_size", "1000"),
    "atlases of traversal": ("ListAtlases", pb.ListAtlasesRequest(model=TRAVERSAL), INVALID, "model", "models/{model}"),
    "atlases of nobody": ("ListAtlases", pb.ListAtlasesRequest(model="models/x"), "NOT_FOUND", "model", "emoji-resnet"),
    "get no atlas": ("GetAtlas", pb.GetAtlasRequest(), INVALID, "name", "atlases/{id}"),
    "get an atlas that is no hash": ("GetAtlas", pb.GetAtlasRequest(name="atlases/abc"), INVALID, "name", "64"),
    "get unknown atlas": ("GetAtlas", pb.GetAtlasRequest(name=NO_ATLAS), "NOT_FOUND", "name", ""),
    "atlas traversal": ("GetAtlas", pb.GetAtlasRequest(name="atlases/../../etc"), INVALID, "name", "atlases/{id}"),
    "activate unknown atlas": ("ActivateAtlas", pb.ActivateAtlasRequest(name=NO_ATLAS), "NOT_FOUND", "name", ""),
    "activate traversal": ("ActivateAtlas", pb.ActivateAtlasRequest(name="atlases/.."), INVALID, "name", "{id}"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def still_serves(wire: Any) -> Iterator[None]:
    """After every refusal, the next good request succeeds."""
    yield
    assert len(wire.call("aligner/EmbedTexts", texts("dog")).embeddings) == 1


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_its_field_and_range(wire: Any, case: str) -> None:
    method, request, code, field, allowed = CASES[case]
    refusal = wire.refusal(f"aligner/{method}", request)
    assert (refusal.code, refusal.fields) == (code, (field,)), refusal
    assert allowed in refusal.allowed, refusal
    assert field in refusal.message, refusal
    assert len(refusal.message) < 1100 and not INTERNALS.search(refusal.message + refusal.trailing), refusal


@pytest.mark.parametrize("rpc", ["EmbedImages", "TraceImages"])
@pytest.mark.parametrize("name", ["empty", "not an image", "truncated", "header of 65535 by 65535", "bomb", "pickle"])
def test_a_bad_image_is_refused_by_its_place(wire: Any, png: bytes, bad_images: Any, name: str, rpc: str) -> None:
    images = [png, bad_images[name]]
    request = trace(images=images) if rpc == "TraceImages" else pb.EmbedImagesRequest(images=images)
    refusal = wire.refusal(f"aligner/{rpc}", request)
    assert (refusal.code, refusal.fields) == (INVALID, ("images[1]",)), refusal
    assert "32000000 pixels" in refusal.allowed
