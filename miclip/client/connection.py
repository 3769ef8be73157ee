"""How a call reaches the server: endpoint, key, metadata, deadline, and when it is made again."""

from __future__ import annotations

import random
import re
import time
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2_grpc

from miclip import telemetry
from miclip.client.plan import Rpc
from miclip.errors import DeadlineExceeded, InvalidInput, MiclipError, NotReady, Unauthenticated, Unreachable
from miclip.local_server import APPLICATIONS, KEY_FILE, SERVER_FILE, read_json
from miclip.settings import settings
from miclip.v1 import activation_pb2_grpc, aligner_pb2_grpc, retrieval_pb2_grpc, steering_pb2_grpc

FIRST_PAUSE_S = 0.1
"""Mean pause before the second attempt in seconds; each further one is twice as long."""
LONGEST_PAUSE_S = 5.0
"""Upper limit of the mean pause in seconds."""


_VISIBLE = re.compile(r"[!-~]*")
"""What gRPC takes as the value of metadata, less spaces."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Options:
    """Where the server is and how to call it; what is not given is found as ``miclip serve`` left it."""

    endpoint: str = ""
    """``host:port``, or ``https://host:port`` behind TLS; default MICLIP_ENDPOINT, then that of the local server."""
    api_key: str = field(default="", repr=False)
    """Default MICLIP_API_KEY, then, for an endpoint on this machine, the key of the local server."""
    timeout_s: float | None = None
    """Time of one call with all its attempts in seconds; default the setting ``request_timeout_s``."""
    attempts: int = 5
    """How often a call is made at most while the server is unavailable."""
    request_id: str = ""
    """Sent with every call, to be found in the server's log; default a new one for each."""
    root_certificates: bytes | None = field(default=None, repr=False)
    """PEM of the authorities to trust instead of the system's; with ``https`` only."""

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not 0 < self.timeout_s < float("inf"):
            raise InvalidInput("timeout_s must be above 0.", field="timeout_s", allowed="above 0")
        if self.attempts < 1:
            raise InvalidInput("attempts must be at least 1.", field="attempts", allowed="1 or more")
        if not _VISIBLE.fullmatch(self.request_id):
            raise InvalidInput("request_id may hold letters, digits and signs of ASCII.", field="request_id")
        if not _VISIBLE.fullmatch(self.api_key):
            raise Unauthenticated("The API key holds characters that no key has; look where it was copied from.")

    def resolved(self) -> Self:
        """These options with endpoint and key found; raises Unreachable where no server is known."""
        endpoint = self.endpoint or settings().endpoint or _local_endpoint()
        return replace(self, endpoint=endpoint, api_key=self.api_key or _known_key(endpoint))

    def varied(self, overrides: dict[str, Any]) -> Self:
        """These options with others that need no new connection; raises InvalidInput for those that do."""
        for name in ("endpoint", "root_certificates"):
            if name in overrides:
                raise InvalidInput(f"{name} belongs to the connection: make another client for it.", field=name)
        return replace(self, **overrides)

    def deadline_s(self) -> float:
        """Time of one call in seconds."""
        return self.timeout_s or settings().request_timeout_s


def _local_endpoint() -> str:
    endpoint = (read_json(settings().state_dir / SERVER_FILE) or {}).get("grpc")
    if not isinstance(endpoint, str) or not endpoint:
        raise Unreachable("No server runs here. Start one with `miclip serve`, or name the endpoint of another.")
    return endpoint


def _known_key(endpoint: str) -> str:
    """The key to send: the local server's goes to no other machine."""
    if settings().api_key:
        return settings().api_key
    host = endpoint.rpartition("//")[2].rpartition(":")[0].strip("[]")
    if host not in _LOOPBACK:
        return ""
    try:
        return (settings().state_dir / KEY_FILE).read_text().strip()
    except (OSError, ValueError):
        return ""  # the server will say that a key is missing; health needs none


def open_channel(library: Any, options: Options) -> Any:
    """A channel of ``library``: ``grpc`` or ``grpc.aio``."""
    size = settings().max_message_bytes
    arguments = [("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size)]
    target = options.endpoint.removeprefix("http://")
    if not target.startswith("https://"):
        return library.insecure_channel(target, options=arguments)
    credentials = grpc.ssl_channel_credentials(options.root_certificates)
    return library.secure_channel(target.removeprefix("https://").rstrip("/"), credentials, options=arguments)


class Stubs:
    """The RPCs of the four services on one channel, blocking or asyncio."""

    def __init__(self, channel: Any) -> None:
        self._closed = False
        self._health = health_pb2_grpc.HealthStub(channel)
        services = (
            activation_pb2_grpc.ActivationServiceStub,
            aligner_pb2_grpc.AlignerServiceStub,
            retrieval_pb2_grpc.RetrievalServiceStub,
            steering_pb2_grpc.SteeringServiceStub,
        )
        self._services = {name: stub(channel) for name, stub in zip(APPLICATIONS, services, strict=True)}

    def close(self) -> None:
        """Refuse calls from now on."""
        self._closed = True

    def method(self, rpc: Rpc) -> Any:
        """The callable of a call; raises InvalidInput after ``close``."""
        if self._closed:
            raise InvalidInput("This client is closed; make another.")
        return getattr(self._health if rpc.method == "Check" else self._services[rpc.application], rpc.method)


def spanned(rpc: Rpc) -> AbstractContextManager[object]:
    """A span around a call with all its attempts."""
    return telemetry.span("client", f"{rpc.application}/{rpc.method}", "client", rpc__system="grpc")


def pause_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row, 1 or more.

    Random around its mean, so that clients that failed together do not come back together.
    """
    return random.uniform(0.5, 1.5) * min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)


class Call:
    """One call while it is tried: its metadata, its deadline, and whether to try again."""

    def __init__(self, rpc: Rpc, options: Options, deadline_s: float | None) -> None:
        self.endpoint, self.request_id = options.endpoint, options.request_id or uuid.uuid4().hex
        self.metadata = [("application", rpc.application), ("request_id", self.request_id)]
        if options.api_key:
            self.metadata.append(("authorization", f"Bearer {options.api_key}"))
        self.metadata.extend(telemetry.carrier().items())
        self._attempts = options.attempts if rpc.idempotent else 1
        self._deadline_s = deadline_s
        self._started, self._tried = time.monotonic(), 0

    def remaining(self) -> float | None:
        """Seconds left, None without a deadline; raises DeadlineExceeded when none is left."""
        if self._deadline_s is None:
            return None
        left = self._deadline_s - (time.monotonic() - self._started)
        if left <= 0:
            raise DeadlineExceeded(f"The call did not finish in its {self._deadline_s:g} s.")
        return left

    def progressed(self) -> None:
        """Count attempts anew: the server has answered in between."""
        self._tried = 0

    def pause(self, error: MiclipError) -> float:
        """Seconds to wait before the next attempt; raises ``error`` where there must be none.

        Only UNAVAILABLE is tried again.
        """
        self._tried += 1
        if not isinstance(error, NotReady) or self._tried >= self._attempts:
            raise error
        pause = pause_s(self._tried)
        left = self.remaining()
        if left is not None and pause >= left:
            raise error
        return pause
