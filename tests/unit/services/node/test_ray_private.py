"""Where Ray keeps what miclip reads of its private parts. A new version of Ray must be looked at here first."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.worker import Worker, global_worker
from ray.serve._private.client import ServeControllerClient
from ray.serve._private.replica import Replica, ReplicaActor
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from services.node import ray_private

TESTED = "2.60.0"


def test_ray_is_the_version_whose_private_parts_were_read() -> None:
    assert ray.__version__ == TESTED, "check every test of this file against the new version, then change TESTED"


def test_the_client_that_deploys_takes_a_config() -> None:
    signature = inspect.signature(_get_global_client)
    assert all(parameter.default is not parameter.empty for parameter in signature.parameters.values())
    _, config, *others = inspect.signature(ServeControllerClient.deploy_apps).parameters.values()
    assert config.annotation in (ServeDeploySchema, "ServeDeploySchema") or "ServeDeploySchema" in str(
        config.annotation
    )
    assert all(parameter.default is not parameter.empty for parameter in others)


def test_an_actor_finds_itself_among_its_workers_actors() -> None:
    assert isinstance(global_worker, Worker)
    assert global_worker.actors == {}


def test_a_replica_says_that_it_drains_where_it_is_looked_for() -> None:
    """Serve does not say it in public; streams would hold up every update if another Ray kept it elsewhere."""
    assert "self._replica_impl" in inspect.getsource(ReplicaActor)
    assert "self._shutting_down = True" in inspect.getsource(Replica._perform_graceful_shutdown)


@pytest.mark.parametrize("shutting_down", [False, True])
def test_a_replica_drains_when_its_flag_says_so(shutting_down: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Holder:
        _shutting_down = shutting_down

    class Actor:
        _replica_impl = Holder()

    actors: dict[str, Any] = {"one": Actor(), "other": object()}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(global_worker, "actors", actors)
    assert ray_private.draining() is shutting_down


def test_nothing_drains_where_no_cluster_runs() -> None:
    assert not ray.is_initialized()
    assert not ray_private.draining()


def test_no_other_module_reads_a_private_part_of_ray() -> None:
    root = Path(ray_private.__file__).parents[2]
    marks = ("ray._", "ray.serve._private", "_replica_impl", "_get_global_client")
    readers = [
        str(path.relative_to(root))
        for folder in ("miclip", "services")
        for path in (root / folder).rglob("*.py")
        if any(mark in path.read_text() for mark in marks)
    ]
    assert readers == ["services/node/ray_private.py"]
