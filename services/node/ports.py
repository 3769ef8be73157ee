"""Ports of the server: the one that was set, or free ones."""

from __future__ import annotations

import secrets
import socket

from miclip.errors import NotReady
from miclip.settings import Settings

_BLOCKS = range(20_000, 32_000)


def chosen_port(config: Settings, name: str) -> int:
    """The port that was set; a free one for 0, or when the default is taken. Raises NotReady where the one set is."""
    port = int(getattr(config, name))
    if port and _is_free(port):
        return port
    if port and name in config.model_fields_set:
        variable = f"MICLIP_{name.upper()}"
        raise NotReady(f"Port {port} is taken by another program. Set {variable} to another one, or to 0 for any.")
    return free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def free_block(size: int) -> int:
    """The first of ``size`` free ports in a row, below the range that the kernel gives to outgoing connections."""
    for _ in range(100):
        first = _BLOCKS.start + size * secrets.randbelow(len(_BLOCKS) // size)
        if all(_is_free(port) for port in range(first, first + size)):
            return first
    raise NotReady(f"No {size} free ports in a row between {_BLOCKS.start} and {_BLOCKS.stop}.")
