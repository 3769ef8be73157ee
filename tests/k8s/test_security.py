"""No container runs as root or without limits, and no pod is reached but by whom it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


def containers(manifests: Any) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every container with its pod's security context, also the autoscaler that KubeRay adds to the head."""
    for pod in manifests.pods():
        for one in pod.containers:
            yield f"{pod.owner}/{one['name']}", one, pod.spec.get("securityContext", {})
    if manifests.cluster.get("enableInTreeAutoscaling"):
        pod_context = manifests.head["template"]["spec"].get("securityContext", {})
        yield "RayService/miclip/autoscaler", manifests.cluster.get("autoscalerOptions", {}), pod_context


def problems(manifests: Any) -> Iterator[str]:
    for name, one, pod in containers(manifests):
        context = {**pod, **one.get("securityContext", {})}
        if not (context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0):
            yield f"{name} may run as root"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write to its image"
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name} may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} has capabilities"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name} has no seccomp profile"
        for bound in ("requests", "limits"):
            if not {"cpu", "memory"} <= one.get("resources", {}).get(bound, {}).keys():
                yield f"{name} has no {bound}"
    for pod in manifests.pods():
        spec = pod.spec
        if spec.get("hostNetwork") or spec.get("hostPID") or any("hostPath" in one for one in spec.get("volumes", ())):
            yield f"{pod.owner} sees its node"
        needs_api = pod.owner.endswith("/head") and bool(manifests.cluster.get("enableInTreeAutoscaling"))
        if spec.get("automountServiceAccountToken") is not needs_api:
            yield f"{pod.owner} has a token of the API server that it does not need, or lacks one"


def test_no_container_runs_as_root_or_without_limits(manifests: Any) -> None:
    assert len([*containers(manifests)]) >= 4
    assert [*problems(manifests)] == []


def _context(manifests: Any, **changes: Any) -> None:
    manifests.container(manifests.workers)["securityContext"].update(changes)


BREAKS: dict[str, Callable[[Any], Any]] = {
    "workers/ray-worker may run as root": lambda m: _context(m, runAsUser=0),
    "head/ray-head may run as root": lambda m: m.container(m.head)["securityContext"].update(runAsNonRoot=False),
    "workers/ray-worker may write to its image": lambda m: _context(m, readOnlyRootFilesystem=False),
    "workers/ray-worker may gain privileges": lambda m: _context(m, allowPrivilegeEscalation=True),
    "workers/ray-worker has capabilities": lambda m: _context(m, capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    "workers/ray-worker has no seccomp": lambda m: _context(m, seccompProfile={"type": "Unconfined"}),
    "workers/ray-worker has no limits": lambda m: m.container(m.workers)["resources"]["limits"].pop("memory"),
    "workers/ray-worker has no requests": lambda m: m.container(m.workers)["resources"]["requests"].pop("cpu"),
    "autoscaler has no limits": lambda m: m.cluster["autoscalerOptions"]["resources"].pop("limits"),
    "autoscaler may write": lambda m: m.cluster["autoscalerOptions"]["securityContext"].pop("readOnlyRootFilesystem"),
    "workers sees its node": lambda m: m.workers["template"]["spec"].update(hostNetwork=True),
    "workers has a token": lambda m: m.workers["template"]["spec"].update(automountServiceAccountToken=True),
    "head has a token": lambda m: m.head["template"]["spec"].update(automountServiceAccountToken=False),
}


@pytest.mark.parametrize("named", BREAKS)
def test_a_lax_container_is_noticed(prod: Any, named: str) -> None:
    BREAKS[named](prod)
    (problem,) = problems(prod)
    assert named in problem


# who may reach whom

RAY = {"miclip/ray": "true"}
HEAD = RAY | {"app.kubernetes.io/component": "ray-head"}
WORKER = RAY | {"app.kubernetes.io/component": "ray-worker"}
REDIS = {"app.kubernetes.io/component": "redis-ray"}
OPERATOR = ("kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"})
PROMETHEUS = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
DNS = ("kube-system", {"k8s-app": "kube-dns"})
CLIENT = ("*client*", {})  # any pod of a namespace with the label miclip/client=true
STRANGER = ("elsewhere", {"app.kubernetes.io/name": "prometheus"})
API_SERVER = ("10.96.0.1", {})
INTERNET = ("8.8.8.8", {})
OWN = "(own)"

Peer = tuple[str, dict[str, str]]


class Network:
    """The policies, asked as the cluster would."""

    def __init__(self, manifests: Any, holds: Callable[[Any, Any], bool]) -> None:
        self._policies = [one["spec"] for one in manifests.of("NetworkPolicy")]
        self._holds = holds

    def ingress(self, pod: dict[str, str], peer: Peer, port: int, protocol: str = "TCP") -> bool:
        return self._allowed("Ingress", "from", pod, peer, port, protocol)

    def egress(self, pod: dict[str, str], peer: Peer, port: int, protocol: str = "TCP") -> bool:
        return self._allowed("Egress", "to", pod, peer, port, protocol)

    def _allowed(self, way: str, end: str, pod: dict[str, str], peer: Peer, port: int, protocol: str) -> bool:
        mine = [one for one in self._policies if way in one["policyTypes"] and self._holds(one["podSelector"], pod)]
        rules = [rule for one in mine for rule in one.get(way.lower(), ())]
        return not mine or any(
            any(self._meets(each, peer) for each in rule[end]) and _on_port(rule, port, protocol) for rule in rules
        )

    def _meets(self, rule: dict[str, Any], peer: Peer) -> bool:
        from ipaddress import ip_address, ip_network

        place, labels = peer
        if "ipBlock" in rule:
            return place[0].isdigit() and ip_address(place) in ip_network(rule["ipBlock"]["cidr"])
        namespace = {"miclip/client": "true"} if place == CLIENT[0] else {"kubernetes.io/metadata.name": place}
        near = self._holds(rule["namespaceSelector"], namespace) if "namespaceSelector" in rule else place == OWN
        return near and self._holds(rule.get("podSelector", {}), labels)


def _on_port(rule: dict[str, Any], port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return ports is None or {"protocol": protocol, "port": port} in ports


ALLOWED = {
    "a client to gRPC": lambda n: n.ingress(WORKER, CLIENT, 9000),
    "the operator to the dashboard": lambda n: n.ingress(HEAD, OPERATOR, 8265),
    "the operator to a proxy's health": lambda n: n.ingress(WORKER, OPERATOR, 8000),
    "Prometheus to a worker": lambda n: n.ingress(WORKER, PROMETHEUS, 8080),
    "Prometheus to the services' series": lambda n: n.ingress(WORKER, PROMETHEUS, 9464),
    "Prometheus to the autoscaler": lambda n: n.ingress(HEAD, PROMETHEUS, 44217),
    "Prometheus to the dashboard's metrics": lambda n: n.ingress(HEAD, PROMETHEUS, 44227),
    "Ray to Ray, in": lambda n: n.ingress(HEAD, (OWN, WORKER), 6379) and n.ingress(WORKER, (OWN, WORKER), 40001),
    "Ray to Ray, out": lambda n: n.egress(WORKER, (OWN, HEAD), 6379) and n.egress(HEAD, (OWN, WORKER), 10002),
    "Ray to Redis": lambda n: n.egress(WORKER, (OWN, REDIS), 6379) and n.ingress(REDIS, (OWN, WORKER), 6379),
    "DNS": lambda n: all(n.egress(pod, DNS, 53, kind) for pod in (HEAD, WORKER, REDIS) for kind in ("UDP", "TCP")),
}
DENIED = {
    "a client to the dashboard": lambda n: n.ingress(HEAD, CLIENT, 8265) or n.ingress(WORKER, CLIENT, 8265),
    "a client to replicas, which unpickle": lambda n: n.ingress(WORKER, CLIENT, 40001),
    "a client to Redis": lambda n: n.ingress(REDIS, CLIENT, 6379),
    "a stranger": lambda n: any(
        n.ingress(pod, STRANGER, port) for pod in (HEAD, WORKER) for port in (8080, 9000, 8265)
    ),
    "Prometheus to gRPC": lambda n: n.ingress(WORKER, PROMETHEUS, 9000),
    "a pod without labels": lambda n: n.ingress({}, (OWN, WORKER), 80) or n.egress({}, (OWN, REDIS), 6379),
    "the internet": lambda n: any(n.egress(pod, INTERNET, 443) for pod in (HEAD, WORKER, REDIS)),
    "a worker to the API server": lambda n: n.egress(WORKER, API_SERVER, 443),
    "Redis to Ray": lambda n: n.egress(REDIS, (OWN, WORKER), 8265),
}


@pytest.mark.parametrize("who", ALLOWED)
def test_who_must_reach_a_pod_does(manifests: Any, holds: Any, who: str) -> None:
    assert ALLOWED[who](Network(manifests, holds))


@pytest.mark.parametrize("who", DENIED)
def test_nobody_else_does(manifests: Any, holds: Any, who: str) -> None:
    assert not DENIED[who](Network(manifests, holds))


@pytest.mark.parametrize("who", [*ALLOWED])
def test_without_the_policies_for_it_nobody_reaches_anything(prod: Any, holds: Any, who: str) -> None:
    prod.objects = [one for one in prod.objects if one["kind"] != "NetworkPolicy"] + [
        prod.one("NetworkPolicy", "deny-all")
    ]
    assert not ALLOWED[who](Network(prod, holds))


@pytest.mark.parametrize("who", [*DENIED])
def test_without_any_policy_everybody_reaches_everything(prod: Any, holds: Any, who: str) -> None:
    prod.objects = [one for one in prod.objects if one["kind"] != "NetworkPolicy"]
    assert DENIED[who](Network(prod, holds))


def test_the_autoscaler_reaches_the_api_server(prod: Any, holds: Any) -> None:
    assert Network(prod, holds).egress(HEAD, API_SERVER, 443)
    prod.objects.remove(prod.one("NetworkPolicy", "autoscaler"))
    assert not Network(prod, holds).egress(HEAD, API_SERVER, 443)
