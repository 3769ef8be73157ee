"""All that miclip uses of Ray's private parts, in one place for the day of a new version.

``tests/unit/services/node/test_ray_private.py`` fails where another version of Ray has moved one of them.
"""

from __future__ import annotations

from typing import Any

import ray


def deploy(config: dict[str, Any]) -> None:
    """Deploy a Serve config on the running cluster, as ``serve deploy`` does without its HTTP API.

    Args:
        config: As ``ray.serve.schema.ServeDeploySchema`` takes it.
    """
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(config)
    serve.start(
        proxy_location=schema.proxy_location,
        http_options=schema.http_options.model_dump(),
        grpc_options=schema.grpc_options.model_dump(),
    )
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(schema)


def draining() -> bool:
    """Whether Serve drains this replica: it takes no new calls and waits for those under way.

    Serve tells the code that it runs only when the drain is over, in ``__del__``; a stream must know before. This reads
    what Serve's own health check of the replica reads, and is False where there is no such thing.
    """
    if not ray.is_initialized():
        return False
    actors: dict[Any, Any] = getattr(ray._private.worker.global_worker, "actors", {})
    replicas = (getattr(actor, "_replica_impl", None) for actor in actors.values())
    return any(getattr(replica, "_shutting_down", False) for replica in replicas)
