"""The clusters serve what `miclip serve` serves, with other numbers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from miclip.local_server import APPLICATIONS
from miclip.settings import Settings
from services.node.serve_config import serve_config, serve_environment

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = {
    "num_replicas", "autoscaling_config", "max_replicas_per_node", "graceful_shutdown_timeout_s", "ray_actor_options",
}  # fmt: skip


def generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "generate_k8s.py"), *arguments]
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "MICLIP_MAX_QUEUED": "7"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_checked_in_serve_configs_are_those_of_the_code() -> None:
    done = generate(ROOT, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("change", ["code changed", "file edited", "file missing", "overlay without numbers"])
def test_a_stale_serve_config_is_noticed(tmp_path: Path, change: str) -> None:
    for folder in ("services", "tools", "k8s"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "miclip").symlink_to(ROOT / "miclip")
    dev = tmp_path / "k8s" / "overlays" / "dev" / "serve-config.yaml"
    if change == "code changed":
        code = tmp_path / "services" / "node" / "serve_config.py"
        code.write_text(code.read_text().replace('"health_check_period_s": 10', '"health_check_period_s": 11'))
    elif change == "file edited":
        dev.write_text(dev.read_text().replace("num_cpus: 0.5", "num_cpus: 0.6"))
    elif change == "file missing":
        dev.unlink()
    else:
        (tmp_path / "k8s" / "overlays" / "staging").mkdir()
    done = generate(tmp_path, "--check")
    assert done.returncode == 1
    assert "make k8s" in done.stderr


def parsed(manifests: Any) -> Any:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load(manifests.service["serveConfigV2"]))
    for application in schema.applications:
        for deployment in application.deployments:
            if isinstance(deployment.autoscaling_config, dict):
                AutoscalingConfig.model_validate(deployment.autoscaling_config)  # Serve looks at it in the cluster only
    return schema


def test_serve_takes_the_config_and_finds_the_four_services_in_it(manifests: Any) -> None:
    schema = parsed(manifests)
    assert [application.name for application in schema.applications] == list(APPLICATIONS)
    assert [[deployment.name for deployment in one.deployments] for one in schema.applications] == [
        [name] for name in APPLICATIONS
    ]


def unknown_options(manifests: Any) -> set[str]:
    """Options that Serve would ignore in silence."""
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import DeploymentSchema, RayActorOptionsSchema

    found = set()
    for application in yaml.safe_load(manifests.service["serveConfigV2"])["applications"]:
        for deployment in application["deployments"]:
            found |= deployment.keys() - DeploymentSchema.model_fields.keys()
            found |= deployment["ray_actor_options"].keys() - RayActorOptionsSchema.model_fields.keys()
            found |= deployment.get("autoscaling_config", {}).keys() - AutoscalingConfig.model_fields.keys()
    return found


def test_serve_knows_every_option(manifests: Any) -> None:
    assert unknown_options(manifests) == set()


@pytest.mark.parametrize("option", ["min_replicas", "max_replicas_per_node", "num_gpus"])
def test_a_misspelt_option_is_noticed(prod: Any, option: str) -> None:
    prod.service["serveConfigV2"] = prod.service["serveConfigV2"].replace(option, option + "s")
    assert unknown_options(prod) == {option + "s"}


def test_a_wrong_value_is_refused_by_serve(prod: Any) -> None:
    prod.service["serveConfigV2"] = prod.service["serveConfigV2"].replace("min_replicas: 2", "min_replicas: 5")
    with pytest.raises(ValueError, match="max_replicas"):
        parsed(prod)


def test_only_numbers_differ_from_what_one_machine_serves(manifests: Any) -> None:
    ours = yaml.safe_load(manifests.service["serveConfigV2"])
    assert differences(ours) == []


def differences(ours: dict[str, Any]) -> list[str]:
    """What differs from `miclip serve`, but for the numbers."""
    local = serve_config(Settings(), grpc_port=9000, http_port=8000)
    for config in (ours, local):
        for application in config["applications"]:
            for deployment in application["deployments"]:
                for number in NUMBERS:
                    deployment.pop(number, None)
    return [name for name in local.keys() | ours.keys() if local.get(name) != ours.get(name)]


def test_another_application_is_a_difference(prod: Any) -> None:
    ours = yaml.safe_load(prod.service["serveConfigV2"])
    ours["applications"][0]["import_path"] = "services.other:app"
    assert differences(ours) == ["applications"]


def unfit(manifests: Any) -> list[str]:
    """Which resources one replica of each service and an alignment take more of than a worker has."""
    worker = manifests.container(manifests.workers)
    limits, environment = worker["resources"]["limits"], {one["name"]: one.get("value") for one in worker["env"]}
    alignment = {
        "num_cpus": Settings().alignment_cpus,
        "num_gpus": float(environment.get("MICLIP_ALIGNMENT_GPUS", Settings().alignment_gpus)),
    }
    actors = [application.deployments[0].ray_actor_options for application in parsed(manifests).applications]
    has = {"num_cpus": float(limits["cpu"]), "num_gpus": float(limits.get("nvidia.com/gpu", 0))}
    takes = {name: alignment[name] + sum(getattr(actor, name) or 0 for actor in actors) for name in has}
    return [name for name in has if round(takes[name], 6) > has[name]]


def test_one_replica_of_every_service_and_an_alignment_fit_on_a_worker(manifests: Any) -> None:
    assert unfit(manifests) == []


@pytest.mark.parametrize(("field", "few", "named"), [("cpu", "5", "num_cpus"), ("nvidia.com/gpu", "0", "num_gpus")])
def test_a_worker_that_is_too_small_is_noticed(prod: Any, field: str, few: str, named: str) -> None:
    prod.container(prod.workers)["resources"]["limits"][field] = few
    assert unfit(prod) == [named]


def lonely(manifests: Any) -> list[str]:
    """Services that may have one replica alone, or more than there may be workers to hold them."""
    most = manifests.workers["maxReplicas"]
    found = []
    for application in parsed(manifests).applications:
        (deployment,) = application.deployments
        scaling = deployment.autoscaling_config if isinstance(deployment.autoscaling_config, dict) else {}
        spread = deployment.max_replicas_per_node == 1
        if not (spread and scaling.get("min_replicas", 0) >= 2 and scaling.get("max_replicas", 0) <= most):
            found.append(application.name)
    return found


def test_in_production_every_service_has_two_replicas_on_two_nodes_and_grows_within_limits(prod: Any) -> None:
    assert lonely(prod) == []
    assert prod.workers["minReplicas"] >= 2


BREAKS: dict[str, Callable[[str], str]] = {
    "one replica": lambda text: text.replace("min_replicas: 2", "min_replicas: 1", 1),
    "two on a node": lambda text: text.replace("max_replicas_per_node: 1", "max_replicas_per_node: 2", 1),
    "more than workers": lambda text: text.replace("max_replicas: 4", "max_replicas: 5", 1),
}


@pytest.mark.parametrize("change", BREAKS)
def test_a_service_that_would_stand_alone_is_noticed(prod: Any, change: str) -> None:
    prod.service["serveConfigV2"] = BREAKS[change](prod.service["serveConfigV2"])
    assert lonely(prod) == ["activation"]


def wrong_flags(manifests: Any) -> set[str]:
    """Flags of Serve that a Ray pod has not, or has otherwise."""
    wanted = serve_environment(Settings()).items()
    return {
        name
        for group in manifests.ray_groups()
        for name, value in wanted
        if {"name": name, "value": value} not in manifests.container(group)["env"]
    }


def test_every_ray_pod_has_serves_flags_before_ray_starts(manifests: Any) -> None:
    assert wrong_flags(manifests) == set()


@pytest.mark.parametrize("group", ["head", "workers"])
def test_a_missing_flag_is_noticed(prod: Any, group: str) -> None:
    flag = prod.container(getattr(prod, group))["env"].pop(0)
    assert wrong_flags(prod) == {flag["name"]}


def test_options_of_an_unknown_application_are_refused() -> None:
    with pytest.raises(ValueError, match="activaton"):
        serve_config(Settings(), grpc_port=1, http_port=2, options={"activaton": {}})
