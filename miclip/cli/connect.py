"""Who answers: a server, or the library in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from miclip.cli.backend import Backend
from miclip.errors import Unreachable
from miclip.settings import settings

if TYPE_CHECKING:  # grpc and the library are imported when they are needed, so that --help is quick
    from miclip.client import MiclipClient


@contextmanager
def client(*, attempts: int = 3) -> Iterator[MiclipClient]:
    """Connect to ``settings().endpoint``, or to the local server.

    Raises:
        Unreachable: no server is known, or it does not answer; the text says how to start one.
    """
    from miclip.client import MiclipClient

    try:
        with MiclipClient(endpoint=settings().endpoint, attempts=attempts) as connected:
            yield connected
    except Unreachable as error:
        advice = "Start a server with `miclip serve --detach`, or set MICLIP_ENDPOINT to the host:port of another."
        said = error.message
        raise Unreachable(said if "miclip serve" in said else f"{said} {advice}") from error


@contextmanager
def backend(local: bool) -> Iterator[Backend]:
    """Return the library when ``local``, else the server.

    Raises:
        Unreachable: no server answers; the text says what can be done.
    """
    if local:
        from miclip.cli.local import LocalBackend

        yield LocalBackend()
        return
    try:
        with client() as connected:
            yield connected
    except Unreachable as error:
        raise Unreachable(f"{error.message} Or add --local to answer in this process, without a server.") from error
