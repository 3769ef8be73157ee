"""The environment of a server's processes: where they find things, and what keeps them apart from other programs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from miclip.settings import Settings
from services.metrics.exporter import VARIABLE as METRICS_VARIABLE
from services.node.ports import free_block, free_port
from services.node.serve_config import serve_environment

_REPLICA_PORTS = 50


def python_environment(given: Mapping[str, str]) -> dict[str, str]:
    """How Python finds miclip and its libraries, whatever the working directory holds.

    A ``services`` or ``ray.py`` of the user's would otherwise be imported in place of ours: Python and Ray put the
    working directory on the path.

    Args:
        given: The environment of this process; of its PYTHONPATH stays what names a folder.
    """
    root = Path(__file__).resolve().parents[2]
    folders = [os.path.abspath(folder) for folder in given.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return {"PYTHONPATH": os.pathsep.join([str(root), *folders]), "PYTHONSAFEPATH": "1"}


def absolute_paths(config: Settings) -> dict[str, str]:
    """The variables of those settings that name files, absolute: the server works in a directory of its own."""
    values: dict[str, Any] = {name: getattr(config, name) for name in config.model_fields_set}
    if config.clip_weights and not config.clip_weights.startswith("hub:"):
        values["clip_weights"] = Path(config.clip_weights)
    resolved = {name: _absolute(value) for name, value in values.items()}
    return {f"MICLIP_{name.upper()}": _text(value) for name, value in resolved.items() if value != values[name]}


def _absolute(value: Any) -> Any:
    """A setting with its paths absolute; any other value as it is."""
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, dict):
        return {name: _absolute(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_absolute, value))
    return value


def _text(value: Any) -> str:
    return str(value) if isinstance(value, Path) else to_json(value).decode()


def metrics_dir(temp_dir: Path) -> Path:
    """Where every process of the cluster writes its metrics."""
    return temp_dir / "metrics"


def cluster_environment(config: Settings, temp_dir: Path, redis_url: str) -> dict[str, str]:
    """What every process of this cluster inherits; all paths and ports are private to it."""
    # Serve's default ranges are shared by all clusters of a machine, and its gRPC listeners share ports silently: each
    # cluster would answer a part of the other's requests
    replicas = free_block(2 * _REPLICA_PORTS)
    return {
        **serve_environment(config),
        "MICLIP_REDIS_URL": redis_url,
        METRICS_VARIABLE: str(metrics_dir(temp_dir)),
        "MICLIP_API_KEY": "",  # replicas know the hash only
        "RAY_TMPDIR": str(temp_dir),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_worker_niceness": "0",  # 15 by default: any other program would starve the replicas
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(temp_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(temp_dir / "haproxy.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(temp_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(temp_dir / "haproxy-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(temp_dir / "metrics.sock"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # the default of 5 kills a proxy that a busy machine delays
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replicas),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replicas + _REPLICA_PORTS - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(replicas + _REPLICA_PORTS),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(replicas + 2 * _REPLICA_PORTS - 1),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
    }
