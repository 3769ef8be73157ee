"""Every object of every overlay is one that Kubernetes and KubeRay know, field by field."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

HERE = Path(__file__).parent
KUBERNETES = ("1.31", "1.36")  # the oldest that we promise, and a new one


def closed(schema: Any) -> Any:
    """Refuse unknown fields wherever a schema lists its properties."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if made.get("type") == "object" and "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@cache
def custom_schemas() -> dict[str, jsonschema.Draft202012Validator]:
    """Validators of the objects that are not Kubernetes' own, by apiVersion/kind."""
    specs = yaml.safe_load((HERE / "custom_resources.yaml").read_text())
    # KubeRay 1.7.0's own schema of ray.io/v1, Apache-2.0
    ray = json.loads(gzip.decompress((HERE / "ray.io_rayservices.v1.json.gz").read_bytes()))
    specs["ray.io/v1/RayService"] = ray["properties"]["spec"]
    known = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return {
        kind: jsonschema.Draft202012Validator(closed({"type": "object", "properties": {**known, "spec": spec}}))
        for kind, spec in specs.items()
    }


def problems(objects: list[dict[str, Any]], version: str) -> Iterator[str]:
    for one in objects:
        kind = f"{one['apiVersion']}/{one['kind']}"
        if kind in custom_schemas():
            for error in custom_schemas()[kind].iter_errors(one):
                yield f"{kind}: {error.json_path}: {error.message[:200]}"
            continue
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{kind}: {error.message[:200]}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{kind}: no such kind in Kubernetes {version}"


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_has_known_fields_only(manifests: Any, version: str) -> None:
    assert len(manifests.objects) > 15
    assert [*problems(manifests.objects, version)] == []


def _unknown_kind(prod: Any) -> None:
    prod.objects.append({"apiVersion": "apps/v1", "kind": "Deploymnet", "metadata": {"name": "x"}})


BREAKS: dict[str, Callable[[Any], Any]] = {
    "Deploymnet": _unknown_kind,
    "enableInTreeAutoscalling": lambda m: m.cluster.update(enableInTreeAutoscalling=True),
    "resource ": lambda m: m.container(m.head).update({"resource ": {}}),
    "minReplicas": lambda m: m.workers.update(minReplicas="2"),
    "replica": lambda m: m.one("StatefulSet", "redis-ray")["spec"].update(replica=2),
    "maxUnavailabel": lambda m: m.one("PodDisruptionBudget", "ray-worker")["spec"].update(maxUnavailabel=1),
    "ingres": lambda m: m.one("NetworkPolicy", "redis")["spec"].update(ingres=[]),
    "endpoints": lambda m: m.one("PodMonitor", "ray-head")["spec"].update(endpoints=[]),
    "gatewayClassName": lambda m: m.one("Gateway", "miclip")["spec"].pop("gatewayClassName"),
    "backend": lambda m: m.one("GRPCRoute", "miclip")["spec"]["rules"][0].update(backend=[]),
}


@pytest.mark.parametrize("named", BREAKS)
def test_a_wrong_field_is_noticed(prod: Any, named: str) -> None:
    BREAKS[named](prod)
    (problem,) = problems(prod.objects, KUBERNETES[-1])
    assert named in problem
