"""Every Ray pod has one endpoint with the series of all its replica processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from miclip.settings import Settings
from services.metrics.exporter import VARIABLE

ANY = "0.0.0.0"


def _exporter(group: dict[str, Any]) -> dict[str, Any]:
    (found,) = (one for one in group["template"]["spec"]["initContainers"] if one["name"] == "exporter")
    return found


def _where(container: dict[str, Any]) -> tuple[str, str]:
    """The directory of the metrics, and the volume that is mounted there."""
    (directory,) = (one["value"] for one in container["env"] if one["name"] == VARIABLE)
    (volume,) = (one["name"] for one in container["volumeMounts"] if one["mountPath"] == directory)
    return directory, volume


def problems(manifests: Any, holds: Callable[[Any, Any], bool]) -> Iterator[str]:
    """Why Prometheus would not see what replicas write."""
    for group in manifests.ray_groups():
        pod, ray, exporter = group["template"]["spec"], manifests.container(group), _exporter(group)
        if exporter["command"] != ["python", "-m", "services.metrics.exporter"] or exporter["image"] != ray["image"]:
            yield "another program"
        if exporter.get("restartPolicy") != "Always":
            yield "no sidecar: Ray would wait for its end"
        if _where(exporter) != _where(ray):
            yield "another directory"
        if not pod.get("shareProcessNamespace"):
            yield "it sees no process, and takes all for ended"
        if {"name": "MICLIP_METRICS_HOST", "value": ANY} not in exporter["env"]:
            yield "listens to its own pod alone"
        ports = {port["name"]: port["containerPort"] for port in exporter["ports"]}
        if ports != {"miclip-metrics": Settings.model_fields["metrics_port"].default}:
            yield "another port"
        labels = group["template"]["metadata"]["labels"]
        monitors = [one["spec"] for one in manifests.of("PodMonitor") if holds(one["spec"]["selector"], labels)]
        if {"port": "miclip-metrics"} not in [end for one in monitors for end in one["podMetricsEndpoints"]]:
            yield "no monitor"


BREAKS: dict[str, Callable[[Any], Any]] = {
    "another program": lambda m: _exporter(m.head).update(image="prom/statsd-exporter:v0.27.0"),
    "no sidecar: Ray would wait for its end": lambda m: _exporter(m.workers).pop("restartPolicy"),
    "another directory": lambda m: _exporter(m.workers)["volumeMounts"][0].update(name="tmp"),
    "it sees no process, and takes all for ended": lambda m: m.head["template"]["spec"].pop("shareProcessNamespace"),
    "listens to its own pod alone": lambda m: _exporter(m.workers)["env"].pop(),
    "another port": lambda m: _exporter(m.workers)["ports"][0].update(containerPort=9090),
    "no monitor": lambda m: m.one("PodMonitor", "ray-worker")["spec"]["podMetricsEndpoints"].pop(),
}


def test_the_exporter_of_a_pod_sees_what_its_replicas_write(manifests: Any, holds: Any) -> None:
    assert [*problems(manifests, holds)] == []


@pytest.mark.parametrize("named", BREAKS)
def test_an_exporter_that_would_see_nothing_is_noticed(prod: Any, holds: Any, named: str) -> None:
    BREAKS[named](prod)
    assert [*problems(prod, holds)] == [named]
