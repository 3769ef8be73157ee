"""How many entries of a list a request asks for."""

from __future__ import annotations

from typing import Any

from miclip.retrieval.results import DEFAULT_TOP_K
from services.rpc import check_range


def requested_top_k(request: Any, limit: int, *, field: str = "top_k", default: int = DEFAULT_TOP_K) -> int:
    """The ``top_k`` of a request or of a part of one, ``default`` where it is not set.

    Args:
        request: A message with an optional ``top_k``.
        limit: Largest number.
        field: Path of ``top_k``, for messages.
        default: What not to set it means.

    Raises:
        InvalidInput: it is not 1 to ``limit``.
    """
    return check_range(request.top_k, field, 1, limit) if request.HasField("top_k") else default
