"""A service grows under load and shrinks again, and no call fails. Starts a server of its own."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from miclip.v1 import activation_pb2

ROOT = Path(__file__).resolve().parents[2]
SERVE_CONFIG = ROOT / "k8s" / "overlays" / "prod" / "serve-config.yaml"

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.slow]


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


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.25)


def replicas(server: Any) -> int:
    """Replicas of the activation service that run."""
    with urllib.request.urlopen(f"http://{server.metrics_endpoint}/metrics", timeout=30) as response:
        found = re.search(r'^miclip_replicas{service="activation"} (\S+)$', response.read().decode(), re.M)
    return int(float(found[1])) if found else 0


@pytest.mark.timeout(600)
def test_the_activation_service_grows_under_load_and_shrinks_again_with_no_failed_call(
    tmp_path: Path, start_server: Any, wire_type: Any, dog: bytes
) -> None:
    config = small(yaml.safe_load(yaml.safe_load(SERVE_CONFIG.read_text())["spec"]["serveConfigV2"]))
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    with start_server(MICLIP_SERVE_CONFIG=str(tmp_path / "serve.yaml")) as server:

        def connect() -> Any:
            return wire_type(server.grpc_endpoint, server.api_key)

        assert replicas(server) == 1
        with Load(connect, 8, dog) as heavy:
            until(lambda: replicas(server) == 2, 120)
            seen = heavy.answered
            until(lambda: heavy.answered > seen + 100, 60)  # both answer
        with Load(connect, 1, dog) as light:
            until(lambda: replicas(server) == 1, 120)
            seen = light.answered
            until(lambda: light.answered > seen + 20, 60)
    assert heavy.failures + light.failures == []
