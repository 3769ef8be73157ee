"""The retrieval service's requests, checked."""

from __future__ import annotations

from miclip.errors import InvalidInput
from miclip.kinds import LocalizationMethod
from miclip.v1 import resources_pb2
from miclip.v1 import retrieval_pb2 as pb
from services.rpc import check_size
from services.wire.embeddings import kind_of


def method(value: int) -> LocalizationMethod:
    """The way of ranking that a request asks for; raises InvalidInput."""
    chosen: LocalizationMethod = kind_of(resources_pb2.LocalizationMethod, value, "method") or "attribution"
    return chosen


def temperature(request: pb.LocalizeConceptsRequest) -> float | None:
    """The request's temperature, None when it is not set; raises InvalidInput."""
    if not request.HasField("temperature"):
        return None
    if not 1e-3 <= request.temperature <= 10:  # also refuses NaN
        text = f"temperature is {request.temperature:g}; allowed is 0.001 to 10."
        raise InvalidInput(text, field="temperature", allowed="0.001 to 10")
    return request.temperature


def check_queries(request: pb.LocalizeConceptsRequest, max_texts: int, max_images: int) -> None:
    """Check the numbers of texts and images; raises InvalidInput."""
    check_size(request.texts, "texts", 0, max_texts)
    check_size(request.images, "images", 0, max_images)
    if not request.texts and not request.images:
        text = "texts: there is neither a text nor an image; send one at least."
        raise InvalidInput(text, field="texts", allowed=f"1 to {max_texts} entries, or 1 to {max_images} images")
