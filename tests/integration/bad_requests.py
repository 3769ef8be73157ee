"""Requests that must be refused, what they are made of, and what every refusal owes the client."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as steering
from tests.names import RESNET_NAME as MODEL

LAYER = f"{MODEL}/layers/layer4"
UNIT = f"{LAYER}/units/0"
MEGABYTE = "a" * 2**20
UINT32 = 2**32 - 1
INVALID = "INVALID_ARGUMENT"


@dataclass(frozen=True)
class Bad:
    """A request that must be refused.

    Attributes:
        rpc: ``application/Method``.
        request: The request.
        field: Field that must be named; a prefix is enough.
        code: Status.
        allowed: Whether the allowed range must be told.
    """

    rpc: str
    request: Any
    field: str
    code: str = INVALID
    allowed: bool = True


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG with any header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GOOD = png(8, 8, zlib.compress(b"\0" * (8 * 25)))


def edits(**change: Any) -> resources_pb2.EditList:
    edit: dict[str, Any] = {"layer": LAYER, "unit": 0}
    return resources_pb2.EditList(edits=[resources_pb2.Edit(**(edit | change))])


def predict(**change: Any) -> activation_pb2.PredictRequest:
    return activation_pb2.PredictRequest(**({"model": MODEL, "images": [GOOD]} | change))


def capture(**change: Any) -> activation_pb2.CaptureActivationsRequest:
    return activation_pb2.CaptureActivationsRequest(**({"model": MODEL, "images": [GOOD], "layers": [LAYER]} | change))


def localize(**change: Any) -> retrieval_pb2.LocalizeConceptsRequest:
    return retrieval_pb2.LocalizeConceptsRequest(**({"model": MODEL, "texts": ["dog"]} | change))


def trace(**change: Any) -> aligner_pb2.TraceImagesRequest:
    return aligner_pb2.TraceImagesRequest(**({"model": MODEL, "images": [GOOD], "concepts": ["dog"]} | change))


def describe_units(**change: Any) -> retrieval_pb2.DescribeUnitsRequest:
    return retrieval_pb2.DescribeUnitsRequest(**({"units": [UNIT]} | change))


def create(**change: Any) -> steering.CreatePolicyRequest:
    policy = steering.Policy(**({"model": MODEL, "edits": edits(scale=0)} | change))
    return steering.CreatePolicyRequest(policy=policy)


def concept(**change: Any) -> steering.CreatePolicyRequest:
    return create(edits=None, concept=steering.ConceptSteering(**({"text": "dog", "scale": 0} | change)))


Source = Callable[[], Iterator[tuple[str, Bad]]]


def cases(*sources: Source) -> list[Any]:
    """The parameters of a test, named by RPC and fault."""
    return [
        pytest.param(bad, id=f"{bad.rpc}-{name}-{number}")
        for source in sources
        for number, (name, bad) in enumerate(source())
    ]


GOOD_CALLS = {
    "activation": ("activation/Predict", predict()),
    "aligner": ("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["dog"])),
    "retrieval": ("retrieval/DescribeUnits", describe_units()),
    "steering": ("steering/ListPolicies", steering.ListPoliciesRequest()),
}

INTERNAL = re.compile(
    r"Traceback|File \"|/work|/tmp|/home|/root|/usr|site-packages|\.py\b|pid=|0x[0-9a-f]{6,}|ray::|\bactor|Exception|redis://"
)


def check_refused(wire: Any, bad: Bad) -> None:
    """The request is refused with its field and range, shows nothing internal, and the next one succeeds."""
    refusal = wire.refusal(bad.rpc, bad.request, timeout=20)
    assert refusal.code == bad.code, refusal.message
    assert any(field.startswith(bad.field) for field in refusal.fields or [""]), (refusal.fields, refusal.message)
    assert refusal.fields or not bad.field
    assert not bad.allowed or refusal.allowed, refusal.message
    assert bad.field in refusal.message, (bad.field, refusal.message)
    assert refusal.reason
    assert refusal.message
    assert len(refusal.message) <= 1024
    assert not INTERNAL.search(refusal.message + refusal.trailing), refusal
    wire.call(*GOOD_CALLS[bad.rpc.split("/")[0]], timeout=20)
