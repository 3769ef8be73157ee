"""The Serve config: one value for laptop, VM and cluster; ``python -m services.node.serve_config`` prints it as YAML.

The applications import nothing heavy at module level: torch and the models are loaded by ``Servicer.start``, in the
replica, in parallel.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from miclip.errors import NotReady
from miclip.local_server import APPLICATIONS
from miclip.settings import Settings

_GPU_USERS = ("activation", "aligner")
_SERVICER_FUNCTIONS = (
    *(f"services.rpc.register.add_{name}" for name in APPLICATIONS),
    "services.rpc.register.add_health",
)


def serve_config(
    settings: Settings,
    *,
    grpc_port: int,
    http_port: int,
    gpus: float = 0,
    num_cpus: float = 0.1,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The config as ``ray.serve.schema.ServeDeploySchema`` takes it.

    Args:
        settings: Limits of the services.
        grpc_port: Port of the gRPC ingress.
        http_port: Port of Serve's HTTP ingress, for ``/-/healthz``.
        gpus: GPUs of the cluster; activation and aligner share one where there is any.
        num_cpus: CPUs that Ray books for a replica; a fraction lets all four fit on one core.
        options: Options of Serve's deployments by application, over the defaults. ``ray_actor_options`` are merged,
            and an ``autoscaling_config`` takes the place of the number of replicas.

    Raises:
        ValueError: ``options`` name an application that there is not.
    """
    options = options or {}
    if unknown := set(options) - set(APPLICATIONS):
        raise ValueError(f"There is no application {sorted(unknown)}; there are {', '.join(APPLICATIONS)}.")
    gpu_share = 0.5 if gpus >= 1 and settings.device != "cpu" else 0
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": http_port},
        "grpc_options": {
            "port": grpc_port,
            "grpc_servicer_functions": list(_SERVICER_FUNCTIONS),
            "enable_reflection": False,
        },
        "applications": [
            _application(name, settings, num_cpus, gpu_share, options.get(name, {})) for name in APPLICATIONS
        ],
    }


def _application(
    name: str, settings: Settings, num_cpus: float, gpu_share: float, options: Mapping[str, Any]
) -> dict[str, Any]:
    actor: dict[str, float] = {"num_cpus": num_cpus, "num_gpus": gpu_share if name in _GPU_USERS else 0}
    deployment: dict[str, Any] = {
        "name": name,
        "num_replicas": 1,
        # the servicers count and refuse by themselves, with RetryInfo; Serve's own limits only back them up
        "max_ongoing_requests": 2 * settings.max_queued,
        "max_queued_requests": 2 * settings.max_queued,
        "health_check_period_s": 10,
        "health_check_timeout_s": 60,
        "graceful_shutdown_timeout_s": 10,
        "graceful_shutdown_wait_loop_s": 0.5,
        # the servicers log every call; Serve's own line repeats whatever a client sent as its request id
        "logging_config": {"enable_access_log": False},
        **options,
        "ray_actor_options": {**actor, **options.get("ray_actor_options", {})},
    }
    if "autoscaling_config" in options:
        del deployment["num_replicas"]
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": f"services.{name}.servicer:app",
        "deployments": [deployment],
    }


def read_serve_config(path: Path, *, grpc_port: int, http_port: int) -> dict[str, Any]:
    """A Serve config from a file, on ports of this machine.

    Args:
        path: YAML: a Serve config, or a RayService that has one, as in ``k8s/overlays``.
        grpc_port: Port of the gRPC ingress in place of the file's.
        http_port: Port of Serve's HTTP ingress in place of the file's.

    Raises:
        NotReady: The file cannot be read, or is neither.
    """
    try:
        config = yaml.safe_load(path.read_text())
        if config.get("kind") == "RayService":
            config = yaml.safe_load(config["spec"]["serveConfigV2"])
        config["grpc_options"]["port"], config["http_options"]["port"] = grpc_port, http_port
    except OSError as error:
        raise NotReady(f"MICLIP_SERVE_CONFIG: {error.strerror}: {path}.") from None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        raise NotReady(f"MICLIP_SERVE_CONFIG: {path} is no Serve config, nor a RayService with one.") from None
    return dict(config)


def serve_environment(settings: Settings) -> dict[str, str]:
    """Flags that Serve reads at import: every process of the cluster needs them before Ray starts."""
    haproxy = "1" if settings.ingress == "haproxy" else "0"
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": haproxy,
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": haproxy,
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(settings.max_message_bytes),
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2 * settings.max_message_bytes),
    }


def to_yaml(config: Mapping[str, Any]) -> str:
    """The config as a file with a note on its origin."""
    note = "# Printed by `python -m services.node.serve_config`: for `serve deploy`, or a RayService.\n"
    return note + yaml.safe_dump(dict(config), sort_keys=False)


if __name__ == "__main__":
    sys.stdout.write(to_yaml(serve_config(Settings(), grpc_port=9000, http_port=8000)))
