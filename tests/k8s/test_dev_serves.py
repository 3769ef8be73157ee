"""The Serve config of the dev overlay, started on this machine. Starts a server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# what `miclip serve` does, with the overlay's config in the place of its own; only the two ports are free ones
PROGRAM = """
import json, sys, threading
import yaml
from services import cluster, server

def from_overlay(_settings, *, grpc_port, http_port, gpus):
    config = yaml.safe_load(sys.stdin)
    config["grpc_options"]["port"], config["http_options"]["port"] = grpc_port, http_port
    return config

cluster.serve_config = from_overlay
settings = cluster.settings()
settings.state_dir.mkdir()
with cluster._running(settings, threading.Event()) as info:
    print(json.dumps(server.health(info)))
"""

pytestmark = [pytest.mark.k8s, pytest.mark.faults, pytest.mark.slow]


@pytest.mark.timeout(420)
def test_the_serve_config_of_the_dev_overlay_answers_all_four_services(render: Any, tmp_path: Path) -> None:
    manifests = render(ROOT / "k8s" / "overlays" / "dev")
    directories = {"MICLIP_STATE_DIR": str(tmp_path / "state"), "MICLIP_DATA_DIR": str(tmp_path / "data")}
    ports = {"MICLIP_GRPC_PORT": "0", "MICLIP_HTTP_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT), **directories, **ports},
        input=manifests.service["serveConfigV2"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers == dict.fromkeys(["activation", "aligner", "retrieval", "steering"], True)
