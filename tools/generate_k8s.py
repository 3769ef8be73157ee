#!/usr/bin/env python3
"""Write the Serve config of every Kubernetes overlay, or with ``--check`` say which is stale.

The numbers come from ``services.node.serve_config``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

for _name in [name for name in os.environ if name.startswith("MICLIP_")]:
    del os.environ[_name]  # the files must not depend on who writes them

from miclip.local_server import APPLICATIONS  # noqa: E402
from miclip.settings import Settings  # noqa: E402
from services.node.serve_config import serve_config  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
OVERLAYS = ROOT / "k8s" / "overlays"
FILE = "serve-config.yaml"
GRPC_PORT, HTTP_PORT = 9000, 8000
NOTE = "# Written by `python tools/generate_k8s.py` from services/node/serve_config.py; change the numbers there.\n"


def _scaled(target: int, highest: int, cpus: float, gpus: float = 0) -> dict[str, Any]:
    """Return options of a service that grows by its load: two replicas at least, at most one on a node.

    Args:
        target: Requests under way that one replica is meant for.
        highest: Most replicas; no more than there may be workers.
        cpus: CPUs of a replica.
        gpus: Share of a GPU of a replica.
    """
    return {
        "max_replicas_per_node": 1,
        "autoscaling_config": {
            "min_replicas": 2,
            "initial_replicas": 2,
            "max_replicas": highest,
            "target_ongoing_requests": target,
            "upscale_delay_s": 15,
            "downscale_delay_s": 600,
        },
        "graceful_shutdown_timeout_s": 60,
        "ray_actor_options": {"num_cpus": cpus, "num_gpus": gpus},
    }


# A worker of prod has 6 CPUs and one GPU: one replica of each service and one alignment fit.
OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "dev": {name: {"ray_actor_options": {"num_cpus": 0.5}} for name in APPLICATIONS},
    "prod": {
        "activation": _scaled(16, 4, 2, 0.5),
        "aligner": _scaled(16, 4, 1, 0.3),
        "retrieval": _scaled(16, 4, 1),
        "steering": _scaled(64, 4, 0.5),  # streams of WatchPolicies count, and rest nearly all the time
    },
}


class _Dumper(yaml.SafeDumper):
    """Writes text of many lines as a block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def patch(overlay: str) -> str:
    """Return the patch of an overlay's RayService that adds its Serve config."""
    config = serve_config(Settings(), grpc_port=GRPC_PORT, http_port=HTTP_PORT, options=OPTIONS[overlay])
    resource = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "miclip"},
        "spec": {"serveConfigV2": yaml.safe_dump(config, sort_keys=False)},
    }
    return NOTE + yaml.dump(resource, Dumper=_Dumper, sort_keys=False)


def stale(overlays: Path) -> list[str]:
    """Return the overlays whose file is missing or differs, and those of which no numbers are here."""
    known = {path.name for path in overlays.iterdir() if path.is_dir()} | set(OPTIONS)
    return sorted(name for name in known if name not in OPTIONS or _read(overlays / name / FILE) != patch(name))


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main() -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    names = stale(OVERLAYS)
    if check:
        for name in names:
            print(f"k8s/overlays/{name}/{FILE} is stale: run `make k8s`.", file=sys.stderr)
        return bool(names)
    for name in OPTIONS:
        (OVERLAYS / name / FILE).write_text(patch(name))
    print(f"{len(names)} Serve configs of k8s/overlays renewed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
