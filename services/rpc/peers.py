"""Calls from one service to another: the same protos, by Serve handle, without leaving the cluster."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from miclip import telemetry
from miclip.errors import MiclipError, NotReady


class Peer:
    """Another service of this cluster.

    Args:
        application: ``activation``, ``aligner``, ``retrieval`` or ``steering``.
    """

    def __init__(self, application: str) -> None:
        self.application = application
        self._handle: Any = None

    async def call(self, method: str, request: Message) -> Any:
        """Call a unary RPC.

        Raises:
            MiclipError: the peer's own error, or NotReady when it cannot be reached.
        """
        try:
            answer = await getattr(self._connected(), method).remote(request, **_trace())
        except (RayError, RayServeException) as error:
            if getattr(error, "cause", None) is not None:
                raise
            raise NotReady(f"The {self.application} service cannot be reached; try again.") from error
        if isinstance(answer, MiclipError):
            raise answer
        return answer

    def _connected(self) -> Any:
        if self._handle is None:
            # by value over gRPC also behind Serve's own proxy, where by reference (plasma) is the default
            self._handle = serve.get_app_handle(self.application).options(_by_reference=False)
        return self._handle


def _trace() -> dict[str, dict[str, str]]:
    """The headers of the span around this, where traces are on: the peer's span becomes its child."""
    headers = telemetry.carrier()
    return {"trace": headers} if headers else {}
