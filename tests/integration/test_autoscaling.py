"""A service grows under load and shrinks again, and no call fails; a replica that goes ends its streams."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import yaml

from miclip.client import MiclipClient
from miclip.errors import GoingAway
from miclip.v1 import activation_pb2
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVE_CONFIG = ROOT / "k8s" / "overlays" / "prod" / "serve-config.yaml"

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def small(config: dict[str, Any]) -> dict[str, Any]:
    """Production's Serve config with numbers for one small machine and a short test."""
    for application in config["applications"]:
        (deployment,) = application["deployments"]
        del deployment["max_replicas_per_node"]
        deployment["ray_actor_options"] = {"num_cpus": 0.1, "num_gpus": 0}
        most = 2 if application["name"] == "activation" else 1
        deployment["autoscaling_config"] |= {"min_replicas": 1, "initial_replicas": 1, "max_replicas": most}
        deployment["autoscaling_config"] |= {"target_ongoing_requests": 2, "upscale_delay_s": 2, "downscale_delay_s": 5}
    return config


class Load:
    """Clients that each call Predict again as soon as they have an answer; none makes a call twice.

    Args:
        connect: Makes the connection of one client.
        clients: Number of clients.
        image: What they send.
    """

    def __init__(self, connect: Callable[[], Any], clients: int, image: bytes) -> None:
        self.answered, self.failures, self._ended = 0, list[str](), threading.Event()
        self._connect, self._image, self._lock = connect, image, threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(clients)]

    def _call(self) -> None:
        wire, request = (
            self._connect(),
            activation_pb2.PredictRequest(model="models/emoji-resnet", images=[self._image]),
        )
        while not self._ended.is_set():
            try:
                wire.call("activation/Predict", request)
                with self._lock:
                    self.answered += 1
            except grpc.RpcError as error:
                self.failures.append(str(error))
        wire.close()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def replicas(server: Any) -> int:
    """Replicas of the activation service that run."""
    with urllib.request.urlopen(f"http://{server.metrics_endpoint}/metrics", timeout=30) as response:
        found = re.search(r'^miclip_replicas{service="activation"} (\S+)$', response.read().decode(), re.M)
    return int(float(found[1])) if found else 0


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, start_server: Any) -> Iterator[Any]:
    config = small(yaml.safe_load(yaml.safe_load(SERVE_CONFIG.read_text())["spec"]["serveConfigV2"]))
    file = tmp_path_factory.mktemp("serve") / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    with start_server(MICLIP_SERVE_CONFIG=str(file)) as server:
        yield server


@pytest.mark.timeout(600)
def test_the_activation_service_grows_under_load_and_shrinks_again_with_no_failed_call(
    own_server: Any, wire_type: Any, dog: bytes
) -> None:
    def connect() -> Any:
        return wire_type(own_server.grpc_endpoint, own_server.api_key)

    assert replicas(own_server) == 1
    with Load(connect, 8, dog) as heavy:
        wait_until(lambda: replicas(own_server) == 2, 120)
        seen = heavy.answered
        wait_until(lambda: heavy.answered > seen + 100, 60)  # both answer
    with Load(connect, 1, dog) as light:
        wait_until(lambda: replicas(own_server) == 1, 120)
        seen = light.answered
        wait_until(lambda: light.answered > seen + 20, 60)
    assert heavy.failures + light.failures == []


DRAIN = """
import sys, time
import ray
from ray import serve

ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False)
serve.delete("steering")
"""


@pytest.mark.timeout(300)
def test_a_replica_that_goes_ends_its_streams_at_once_and_cleanly(own_server: Any) -> None:
    """Serve would wait for them, in production for a minute, and then cut them."""
    with MiclipClient(endpoint=own_server.grpc_endpoint, api_key=own_server.api_key, attempts=1) as client:
        watch = client.watch_policies(timeout_s=100)
        assert next(watch).snapshot.last
        began = time.monotonic()
        address, secrets = cluster_of(own_server.pid)
        command = [sys.executable, "-c", DRAIN, address]
        done = subprocess.run(command, env={**os.environ, **secrets}, capture_output=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        with pytest.raises(GoingAway, match="about to go"):
            list(watch)
        assert time.monotonic() - began < 30  # of the 60 that the replica would have had


def cluster_of(pid: int) -> tuple[str, dict[str, str]]:
    """Address of a server's Ray cluster, and the variables that open it."""
    for process in psutil.Process(pid).children(recursive=True):
        for part in process.cmdline():
            if part.startswith("--gcs-address="):
                secrets = {name: value for name, value in process.environ().items() if name.startswith("RAY_")}
                return part.partition("=")[2], secrets
    raise AssertionError("no raylet runs")
