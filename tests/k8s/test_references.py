"""Every image, port, secret and other name in an overlay is one that the overlay, its image or its installation has."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
GUIDE = (ROOT / "docs" / "kubernetes.md").read_text()
AGENT_PORTS = {52365, 40001}  # of Ray's agent, and any replica's: no container names them
OUTSIDE_PORTS = {53, 443, 6443}  # DNS and API server


def installed_secrets() -> dict[str, set[str]]:
    """Secrets that the commands of the guide make, with their keys."""
    made = {name: {"tls.crt", "tls.key"} for name in re.findall(r"create secret tls (\S+)", GUIDE)}
    for name, rest in re.findall(r"create secret generic (\S+) (.*)", GUIDE):
        made[name] = set(re.findall(r"--from-literal=(\w+)=", rest))
    return made


def walk(value: Any, key: str) -> Iterator[Any]:
    """All values of ``key`` at any depth."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield each
            yield from walk(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each, key)


def wrong_names(manifests: Any) -> Iterator[str]:
    """Names of secrets, files, accounts, priorities and volumes that nothing has."""
    secrets = installed_secrets()
    for used in walk(manifests.objects, "secretKeyRef"):
        if used["key"] not in secrets.get(used["name"], ()):
            yield f"secret {used['name']}/{used['key']}"
    for used in (one for several in walk(manifests.objects, "certificateRefs") for one in several):
        if "tls.crt" not in secrets.get(used["name"], ()):
            yield f"secret {used['name']}"
    names = {
        kind: {one["metadata"]["name"] for one in manifests.of(kind)}
        for kind in ("ConfigMap", "ServiceAccount", "PriorityClass", "PersistentVolumeClaim")
    }
    for pod in manifests.pods():
        if pod.spec.get("serviceAccountName") not in names["ServiceAccount"]:
            yield f"{pod.owner}: account {pod.spec.get('serviceAccountName')}"
        if pod.spec.get("priorityClassName", "") not in {"", *names["PriorityClass"]}:
            yield f"{pod.owner}: priority {pod.spec['priorityClassName']}"
        yield from _wrong_volumes(manifests, pod, names)


def _wrong_volumes(manifests: Any, pod: Any, names: dict[str, set[str]]) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
    for volume in volumes.values():
        file, claim = volume.get("configMap", {}).get("name"), volume.get("persistentVolumeClaim", {}).get("claimName")
        if file and file not in names["ConfigMap"]:
            yield f"{pod.owner}: file {file}"
        if claim and claim not in names["PersistentVolumeClaim"]:
            yield f"{pod.owner}: claim {claim}"
    templates = [
        claim["metadata"]["name"]
        for one in manifests.of("StatefulSet")
        if pod.owner == f"StatefulSet/{one['metadata']['name']}"
        for claim in one["spec"].get("volumeClaimTemplates", ())
    ]
    for one in pod.containers:
        for mount in one.get("volumeMounts", ()):
            if mount["name"] not in {*volumes, *templates}:
                yield f"{pod.owner}: volume {mount['name']}"


def wrong_ports(manifests: Any, holds: Callable[[Any, Any], bool]) -> Iterator[str]:
    """Ports that nobody listens on."""
    pods = [*manifests.pods()]
    for name, service in manifests.services().items():
        behind = [pod for pod in pods if holds({"matchLabels": service["selector"]}, pod.labels)]
        for port in service["ports"]:
            target = port["targetPort"]
            if not any(target in pod.ports or target in pod.ports.values() for pod in behind):
                yield f"service {name}: {target}"
    for monitor in manifests.of("PodMonitor"):
        behind = [pod for pod in pods if holds(monitor["spec"]["selector"], pod.labels)]
        for end in monitor["spec"]["podMetricsEndpoints"]:
            if not any(end["port"] in pod.ports for pod in behind):
                yield f"monitor {monitor['metadata']['name']}: {end['port']}"
    for pod in pods:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for one in pod.containers:
                port = one.get(probe, {}).get("httpGet", {}).get("port", 52365)
                if port not in {*pod.ports, *pod.ports.values(), *AGENT_PORTS}:
                    yield f"{pod.owner}: {probe} {port}"
    for policy in manifests.of("NetworkPolicy"):
        yield from _wrong_policy_ports(policy, pods, holds)


def _wrong_policy_ports(policy: Any, pods: list[Any], holds: Callable[[Any, Any], bool]) -> Iterator[str]:
    spec, name = policy["spec"], policy["metadata"]["name"]
    behind = [pod for pod in pods if holds(spec["podSelector"], pod.labels)]
    if not behind:
        yield f"policy {name} selects no pod"
        return
    known = {port for pod in behind for port in pod.ports.values()} | AGENT_PORTS
    for rule in spec.get("ingress", ()):
        yield from (f"policy {name}: {one['port']}" for one in rule.get("ports", ()) if one["port"] not in known)
    known = {port for pod in pods for port in pod.ports.values()} | OUTSIDE_PORTS
    for rule in spec.get("egress", ()):
        yield from (f"policy {name}: {one['port']}" for one in rule.get("ports", ()) if one["port"] not in known)


def wrong_addresses(manifests: Any) -> Iterator[str]:
    """Hosts and routes that lead to no Service of the overlay."""
    ports = {(name, port["port"]) for name, service in manifests.services().items() for port in service["ports"]}
    targets = [("redisAddress", "//" + address) for address in walk(manifests.objects, "redisAddress")]
    for group in manifests.ray_groups():
        environment = {one["name"]: one.get("value", "") for one in manifests.container(group)["env"]}
        targets.append(("MICLIP_REDIS_URL", re.sub(r"\$\(\w+\)", "x", environment["MICLIP_REDIS_URL"])))
    for field, address in targets:
        parts = urlsplit(address)
        if (parts.hostname, parts.port) not in ports:
            yield f"{field}: {parts.hostname}:{parts.port}"
    for backends in walk(manifests.of("GRPCRoute"), "backendRefs"):
        yield from (f"route: {one['name']}" for one in backends if (one["name"], one["port"]) not in ports)
    listeners = {
        (gateway["metadata"]["name"], listener["name"], listener["hostname"])
        for gateway in manifests.of("Gateway")
        for listener in gateway["spec"]["listeners"]
    }
    for route in manifests.of("GRPCRoute"):
        for parent in route["spec"]["parentRefs"]:
            if not {(parent["name"], parent["sectionName"], host) for host in route["spec"]["hostnames"]} <= listeners:
                yield f"gateway: {parent['name']}/{parent['sectionName']}"


def wrong_images(manifests: Any) -> Iterator[str]:
    """Images without a fixed version, or of more than one miclip."""
    ours = set()
    for pod in manifests.pods():
        for one in pod.containers:
            name, _, tag = one["image"].rpartition(":")
            if not name or tag == "latest":
                yield f"{pod.owner}: {one['image']} has no version"
            if pod.owner.startswith("RayService"):
                ours.add(one["image"])
    if len(ours) != 1:
        yield f"several miclip: {sorted(ours)}"
    yield from (f"{image} is not this version" for image in ours if not re.search(rf":{re.escape(VERSION)}\b", image))


def problems(manifests: Any, holds: Callable[[Any, Any], bool]) -> list[str]:
    return [
        *wrong_names(manifests),
        *wrong_ports(manifests, holds),
        *wrong_addresses(manifests),
        *wrong_images(manifests),
    ]


def test_every_name_resolves_inside_the_overlay(manifests: Any, holds: Any) -> None:
    assert problems(manifests, holds) == []


def _environment(manifests: Any, name: str) -> dict[str, Any]:
    return next(one for one in manifests.container(manifests.head)["env"] if one["name"] == name)


def _rename_secret(manifests: Any) -> None:
    _environment(manifests, "MICLIP_REDIS_PASSWORD")["valueFrom"] = {
        "secretKeyRef": {"name": "gone", "key": "password"}
    }


def _volume(manifests: Any, owner: str) -> dict[str, Any]:
    return manifests.one("StatefulSet", owner)["spec"]["template"]["spec"]["volumes"][0]


BREAKS: dict[str, Callable[[Any], Any]] = {
    "secret gone/password": _rename_secret,
    "secret redis-ray/pasword": lambda m: m.cluster["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"][
        "secretKeyRef"
    ].update(key="pasword"),
    "secret tls": lambda m: m.one("Gateway", "miclip")["spec"]["listeners"][0]["tls"].update(
        certificateRefs=[{"name": "tls"}]
    ),
    "file redis-rya": lambda m: _volume(m, "redis-ray")["configMap"].update(name="redis-rya"),
    "claim atlas": lambda m: m.head["template"]["spec"]["volumes"][3]["persistentVolumeClaim"].update(
        claimName="atlas"
    ),
    "volume temp": lambda m: m.container(m.workers)["volumeMounts"][0].update(name="temp"),
    "account default": lambda m: m.workers["template"]["spec"].update(serviceAccountName="default"),
    "priority high": lambda m: m.workers["template"]["spec"].update(priorityClassName="high"),
    "service redis-ray: resp": lambda m: m.one("Service", "redis-ray")["spec"]["ports"][0].update(targetPort="resp"),
    "service miclip-serve: 9001": lambda m: m.service["serveService"]["spec"]["ports"][1].update(targetPort=9001),
    "monitor ray-head: metric": lambda m: m.one("PodMonitor", "ray-head")["spec"]["podMetricsEndpoints"][0].update(
        port="metric"
    ),
    "readinessProbe http": lambda m: m.container(m.workers)["readinessProbe"]["httpGet"].update(port="http"),
    "policy clients: 9001": lambda m: m.one("NetworkPolicy", "clients")["spec"]["ingress"][0]["ports"][0].update(
        port=9001
    ),
    "policy redis selects no pod": lambda m: m.one("NetworkPolicy", "redis")["spec"].update(
        podSelector={"matchLabels": {"app": "redis"}}
    ),
    "redisAddress: redis:6379": lambda m: m.cluster["gcsFaultToleranceOptions"].update(redisAddress="redis:6379"),
    "MICLIP_REDIS_URL: redis-miclip:6380": lambda m: _environment(m, "MICLIP_REDIS_URL").update(
        value="redis://redis-miclip:6380"
    ),
    "route: miclip-serve-svc": lambda m: m.one("GRPCRoute", "miclip")["spec"]["rules"][0]["backendRefs"][0].update(
        name="miclip-serve-svc"
    ),
    "gateway: miclip/https": lambda m: m.one("GRPCRoute", "miclip")["spec"]["parentRefs"][0].update(
        sectionName="https"
    ),
    "redis has no version": lambda m: m.one("StatefulSet", "redis-ray")["spec"]["template"]["spec"]["containers"][
        0
    ].update(image="redis"),
    "several miclip": lambda m: m.container(m.head).update(image=f"miclip:{VERSION}"),
}


@pytest.mark.parametrize("named", BREAKS)
def test_a_name_that_nothing_has_is_noticed(prod: Any, holds: Any, named: str) -> None:
    BREAKS[named](prod)
    found = problems(prod, holds)
    assert found
    assert all(named in problem for problem in found)


def test_images_of_another_version_are_noticed(prod: Any, holds: Any) -> None:
    for pod in prod.pods():
        for one in pod.containers:
            one["image"] = one["image"].replace(VERSION, "0.0.9")
    assert problems(prod, holds) == ["registry.example.com/miclip:0.0.9-cuda is not this version"]


def disagreements(manifests: Any, dockerfile: str) -> list[str]:
    """Where the pods differ from the image that the Dockerfile builds."""
    (user,) = re.findall(r"^USER (\d+)$", dockerfile, re.M)
    environment = dict(re.findall(r"(MICLIP_\w+_DIR)=(\S+)", dockerfile))
    # the first EXPOSE: the ingress, which every way to run the image has
    exposed = {int(port) for port in re.search(r"^EXPOSE (.*)$", dockerfile, re.M)[1].split()}
    found = []
    for group in manifests.ray_groups():
        container, context = manifests.container(group), group["template"]["spec"]["securityContext"]
        set_here = {one["name"]: one.get("value") for one in container["env"]}
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        found += ["user"] * ({context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} != {int(user)})
        found += [name for name, path in environment.items() if set_here.get(name) != path]
        found += [path for path in environment.values() if not any(path.startswith(mount) for mount in mounts)]
        found += ["ports"] * (not exposed <= {port["containerPort"] for port in container["ports"]})
        found += ["home"] * (set_here.get("HOME") not in mounts)
    return found


def test_the_pods_agree_with_the_image(manifests: Any) -> None:
    assert disagreements(manifests, (ROOT / "Dockerfile").read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("USER 10001", "USER 1000", "user"),
        ("EXPOSE 9000", "EXPOSE 9001", "ports"),
        ("/state ", "/s ", "MICLIP_STATE_DIR"),
    ],
)
def test_another_image_is_noticed(prod: Any, old: str, new: str, named: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert old in text
    assert set(disagreements(prod, text.replace(old, new))) == {named}


def test_the_overlay_of_the_guide_renders_and_resolves(tmp_path: Path, render: Any, holds: Any) -> None:
    import shutil

    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    (block,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    folder = tmp_path / "k8s" / "my-cluster"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(block)
    made = render(folder)
    assert problems(made, holds) == []
    assert made.one("Gateway", "miclip")["spec"]["gatewayClassName"] == "envoy"
    assert made.one("PersistentVolumeClaim", "atlases")["spec"]["storageClassName"] == "filestore"
    assert made.container(made.head)["image"] == yaml.safe_load(block)["images"][0]["newName"] + ":0.1.0-cuda"
