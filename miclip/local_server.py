"""What client and server agree on: the names of the services, and a local server's files in its state directory.

The files are readable by their owner alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from miclip.files import PRIVATE, write_file

APPLICATIONS = ("activation", "aligner", "retrieval", "steering")
"""The four services, as the metadata entry ``application`` names them."""
SERVER_FILE = "server.json"
STARTING_FILE = "starting.json"
LOCK_FILE = "server.lock"
KEY_FILE = "api_key"
LOG_FILE = "logs/server.log"


class ServerInfo(BaseModel):
    """A running local server, as ``server.json`` describes it."""

    model_config = ConfigDict(frozen=True)

    grpc: str
    """``host:port`` of the gRPC ingress."""
    http: str
    """``host:port`` that answers ``/-/healthz``."""
    metrics: str = ""
    """``host:port`` that answers ``/metrics``; empty for a server older than that."""
    pid: int
    started_at: float
    """Seconds since the epoch."""
    ingress: str
    """``haproxy`` or ``python``."""
    redis_url: str
    redis_pid: int
    """0 for a Redis that was there already."""
    temp_dir: str
    """Ray's private directory, with the logs of the replicas."""


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically, mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(path, text, mode=PRIVATE)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None when there is none or it is broken."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
