"""Save what the services keep in Redis to a file, and put it back: policies, stops, audit, keys' hashes, jobs and all.

    python -m services.node.backup save FILE       # FILE may be - for standard output
    python -m services.node.backup load FILE       # replicas follow within seconds, without a restart

Takes the Redis of the server that runs here, else ``MICLIP_REDIS_URL``. A file holds no key, but says who may do what:
keep it as you keep Redis. It is JSON lines with Redis' own dump of each value, which the same or a newer Redis takes.
Cached embeddings are left out; atlases are files below ``MICLIP_DATA_DIR``, to be copied as such.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO

import redis

from miclip.errors import BadArtefact, MiclipError, NotReady
from miclip.settings import settings

_FORMAT = {"miclip_backup": 1}
_OURS, _CACHE, _CHANGES = "{miclip}:", "{miclip}:embeddings:", "{miclip}:changes"


def save(redis_url: str) -> Iterator[str]:
    """The lines of a backup: all values as they are at one moment.

    Raises:
        NotReady: Redis cannot be reached.
    """
    with _connected(redis_url) as client:
        names = _names(client)
        with client.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.dump(name)
                pipe.pttl(name)
            values = pipe.execute()
    yield json.dumps(_FORMAT) + "\n"
    for name, dump, ttl in zip(names, values[::2], values[1::2], strict=True):
        if dump is not None:
            value = {"name": name, "ttl_ms": max(0, ttl), "dump": base64.b64encode(dump).decode()}
            yield json.dumps(value) + "\n"


def load(redis_url: str, lines: Iterable[str]) -> int:
    """Replace everything by a backup, all at once or not at all; returns the number of values.

    Raises:
        BadArtefact: The lines are no backup, or one of a newer Redis.
        NotReady: Redis cannot be reached.
    """
    values = _parse(lines)
    with _connected(redis_url) as client:
        gone = set(_names(client)) - {name for name, _, _ in values}
        _try_out(client, values)
        with client.pipeline(transaction=True) as pipe:
            for name, ttl_ms, dump in values:
                pipe.restore(name, ttl_ms, dump, replace=True)
            if gone:
                pipe.delete(*gone)
            pipe.xadd(_CHANGES, {"id": ""})  # wakes the replicas, which read everything anew
            pipe.execute()
    return len(values)


def _names(client: redis.Redis) -> list[str]:
    found = (name.decode() for name in client.scan_iter(match=f"{_OURS}*", count=1000))
    return sorted(name for name in found if not name.startswith(_CACHE))


def _parse(lines: Iterable[str]) -> list[tuple[str, int, bytes]]:
    try:
        read = [json.loads(line) for line in lines]
        if not read or read[0] != _FORMAT:
            raise BadArtefact("This is no backup of miclip, or one of a newer version.")
        values = [
            (str(one["name"]), int(one["ttl_ms"]), base64.b64decode(one["dump"], validate=True)) for one in read[1:]
        ]
    except (ValueError, KeyError, TypeError):
        raise BadArtefact("The backup is broken: it was cut off or changed.") from None
    if any(not name.startswith(_OURS) for name, _, _ in values):
        raise BadArtefact("The backup has values that are not miclip's.")
    return values


def _try_out(client: redis.Redis, values: list[tuple[str, int, bytes]]) -> None:
    """Have Redis check every value under another name, since a transaction that fails midway is not undone."""
    for _, _, dump in values:
        try:
            client.restore(f"{_CACHE}backup", 60_000, dump, replace=True)
        except redis.ResponseError as error:
            raise BadArtefact(f"Redis refuses a value of the backup: {error}.") from None
    client.delete(f"{_CACHE}backup")


class _connected:
    """A connection whose errors are ours."""

    def __init__(self, redis_url: str) -> None:
        self._client = redis.Redis.from_url(redis_url)

    def __enter__(self) -> redis.Redis:
        return self._client

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._client.close()
        if isinstance(error, redis.ConnectionError):
            raise NotReady("Redis cannot be reached.") from None


def _here() -> str:
    from services.node import control

    running = control.status()
    url = running.redis_url if running else settings().redis_url
    if not url:
        raise NotReady("No server runs here. Start one with `miclip serve --detach`, or set MICLIP_REDIS_URL.")
    return url


def _open(name: str, mode: str) -> IO[str]:
    if name == "-":
        return sys.stdout if mode == "w" else sys.stdin
    return open(name, mode, opener=lambda path, flags: os.open(path, flags, 0o600))


def main() -> int:
    """Save or load; returns the exit status."""
    parser = argparse.ArgumentParser(description="Save what the services keep in Redis, or put it back.")
    parser.add_argument("action", choices=["save", "load"])
    parser.add_argument("file", help="- for standard output or input")
    arguments = parser.parse_args()
    try:
        if arguments.action == "load":
            with _open(arguments.file, "r") as file:
                count = load(_here(), file)
        else:
            lines = [*save(_here())]
            with _open(arguments.file, "w") as file:
                file.writelines(lines)
            count = len(lines) - 1
    except (MiclipError, OSError) as error:
        sys.stderr.write(f"{error.message if isinstance(error, MiclipError) else error}\n")
        return 1
    sys.stderr.write(f"{count} values {'saved' if arguments.action == 'save' else 'loaded'}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
