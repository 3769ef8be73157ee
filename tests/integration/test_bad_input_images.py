"""Images that are none, or too large, are refused by their place."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from miclip.v1 import aligner_pb2
from miclip.v1 import steering_pb2 as steering
from tests.integration.bad_requests import (
    GOOD,
    MODEL,
    Bad,
    capture,
    cases,
    check_refused,
    edits,
    localize,
    png,
    predict,
    trace,
)


def bomb() -> bytes:
    """Some kilobytes that announce and hold 300 million pixels."""
    return png(15_000, 20_000, zlib.compress(bytes(40 * 2**20), 9))


BAD_IMAGES = {
    "empty": b"",
    "text": b"not an image at all",
    "huge header": png(65535, 65535),
    "bomb": bomb(),
    "truncated": png(64, 64, zlib.compress(b"\0" * 100)[:20]),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "zero size": png(0, 0),
    "format not offered": b"II*\0\x08\0\0\0" + bytes(64),
    "frame larger than its screen": b"GIF89a\x08\0\x08\0\x80\0\0" + bytes(6) + b"," + bytes(4) + b"\xff" * 4 + bytes(9),
}


def bad_images() -> Iterator[tuple[str, Bad]]:
    for name, data in BAD_IMAGES.items():
        yield name, Bad("activation/Predict", predict(images=[GOOD, data]), "images[1]")
        yield name, Bad("activation/CaptureActivations", capture(images=[data]), "images[0]")
        yield name, Bad("aligner/EmbedImages", aligner_pb2.EmbedImagesRequest(images=[data]), "images[0]")
        yield name, Bad("aligner/TraceImages", trace(images=[GOOD, data]), "images[1]")
        yield name, Bad("retrieval/LocalizeConcepts", localize(texts=[], images=[data]), "images[0]")
        policy = steering.Policy(model=MODEL, edits=edits(scale=0))
        preview = steering.PreviewPolicyRequest(policy=policy, images=[data])
        yield name, Bad("steering/PreviewPolicy", preview, "images[0]")
    for request in (predict(images=[]), predict(images=[GOOD] * 65)):
        yield f"{len(request.images)} images", Bad("activation/Predict", request, "images")
    large = predict(images=[GOOD, bytes(16 * 2**20 + 1)])
    yield "16 MiB and a byte", Bad("activation/Predict", large, "images[1]", "RESOURCE_EXHAUSTED")
    yield "no images", Bad("activation/CaptureActivations", capture(images=[]), "images")
    yield "no images", Bad("aligner/EmbedImages", aligner_pb2.EmbedImagesRequest(), "images")


CASES = cases(bad_images)


@pytest.mark.parametrize("bad", CASES)
def test_an_image_that_cannot_be_used_is_refused_by_its_place(wire: Any, bad: Bad) -> None:
    check_refused(wire, bad)
