"""Whether Serve is about to end this replica."""

from __future__ import annotations

from typing import Any

import ray


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
