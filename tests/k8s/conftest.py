"""The rendered manifests of every overlay, with what the tests ask them."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(path.name for path in (ROOT / "k8s" / "overlays").iterdir() if path.is_dir())


@dataclass(frozen=True)
class Pod:
    """A pod template and where it is.

    Attributes:
        owner: ``Kind/name``, and for Ray's pods the group.
        labels: Of the pods.
        spec: Of the pods.
    """

    owner: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", ())}


class Manifests:
    """The objects of an overlay; a test may change them."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = (one for one in self.of(kind) if one["metadata"]["name"] == name)
        return found

    @property
    def service(self) -> dict[str, Any]:
        """The spec of the RayService."""
        return self.one("RayService", "miclip")["spec"]

    @property
    def cluster(self) -> dict[str, Any]:
        return self.service["rayClusterConfig"]

    @property
    def head(self) -> dict[str, Any]:
        return self.cluster["headGroupSpec"]

    @property
    def workers(self) -> dict[str, Any]:
        return self.cluster["workerGroupSpecs"][0]

    def container(self, group: dict[str, Any]) -> dict[str, Any]:
        return group["template"]["spec"]["containers"][0]

    def ray_groups(self) -> list[dict[str, Any]]:
        return [self.head, *self.cluster["workerGroupSpecs"]]

    def pods(self) -> Iterator[Pod]:
        """Every pod template."""
        for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            for one in self.of(kind):
                template = one["spec"]["template"]
                yield Pod(f"{kind}/{one['metadata']['name']}", template["metadata"]["labels"], template["spec"])
        for one in self.of("RayService"):
            cluster = one["spec"]["rayClusterConfig"]
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                name = group.get("groupName", "head")
                template = group["template"]
                yield Pod(f"RayService/miclip/{name}", template["metadata"]["labels"], template["spec"])

    def services(self) -> dict[str, dict[str, Any]]:
        """Specs of the Services by name, with the one that KubeRay makes for the workers."""
        found = {one["metadata"]["name"]: one["spec"] for one in self.of("Service")}
        made = self.service["serveService"]
        selector = {"app.kubernetes.io/component": "ray-worker"}
        return found | {made["metadata"]["name"]: {**made["spec"], "selector": selector}}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector holds."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    expressions = selector.get("matchExpressions", ())
    assert all(one["operator"] == "In" for one in expressions), "this test knows no other operator yet"
    return all(labels.get(one["key"]) in one["values"] for one in expressions)


@cache
def _render(folder: Path) -> str:
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize", str(folder)]
    else:
        kustomize = shutil.which("kustomize")
        assert kustomize, "kubectl is missing: these tests need it, or kustomize, to render the manifests."
        command = [kustomize, "build", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a warning is of something deprecated
    return done.stdout


@pytest.fixture(scope="session")
def render() -> Callable[[Path], Manifests]:
    """Render a kustomization."""
    return lambda folder: Manifests(copy.deepcopy([*yaml.safe_load_all(_render(folder))]))


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, render: Callable[[Path], Manifests]) -> Manifests:
    """Every overlay in turn."""
    return render(ROOT / "k8s" / "overlays" / request.param)


@pytest.fixture
def prod(render: Callable[[Path], Manifests]) -> Manifests:
    """The overlay in which everything is; tests break it."""
    return render(ROOT / "k8s" / "overlays" / "prod")


@pytest.fixture(scope="session")
def holds() -> Callable[[dict[str, Any], dict[str, str]], bool]:
    """Whether a label selector holds."""
    return selects
