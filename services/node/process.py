"""The server process: embedded Redis, a private Ray cluster, the four applications. Started by ``control``.

``python -m services.node.process`` runs until SIGTERM or SIGINT, says in ``starting.json`` how far it is, and writes
``server.json`` when all four services answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

import psutil

from miclip.cpus import available_cpus
from miclip.errors import InvalidInput, MiclipError, NotReady
from miclip.local_server import (
    APPLICATIONS,
    LOCK_FILE,
    SERVER_FILE,
    STARTING_FILE,
    ServerInfo,
    read_json,
    write_private,
)
from miclip.settings import Settings, settings
from services.metrics.exporter import Exporter
from services.node.environment import absolute_paths, cluster_environment, metrics_dir, python_environment
from services.node.ports import chosen_port
from services.node.serve_config import read_serve_config, serve_config

_READY_S = 300.0
_OBJECT_STORE_BYTES = 100 * 2**20
_NO_REDIS_URL = "MICLIP_REDIS_URL is no address of a Redis: use redis://HOST:PORT/DB, rediss://… or unix:///PATH."
_MAX_TEMP_DIR = 27  # Serve appends 70 characters to reach a socket of HAProxy, which takes paths of 97

log = logging.getLogger("miclip.server")


def main() -> int:
    """Run the server; the exit status is 0 after a clean stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = _settings()
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    stopped = threading.Event()
    _on_signals(stopped)
    try:
        with _only_one(config.state_dir), _running(config, stopped) as info:
            write_private(config.state_dir / SERVER_FILE, info.model_dump_json())
            _say(config, "ready")
            _on_signals(stopped)  # Ray has put its own handlers
            stopped.wait()
            log.info("stopping")
    except _Stopped:
        log.info("stopped while starting")
    except MiclipError as error:
        log.error("%s", error.message)
        _say(config, "failed", error=error.message)
        return 1
    except Exception:
        log.exception("the server failed")
        _say(config, "failed", error="The server failed to start.")
        return 1
    return 0


def _settings() -> Settings:
    """The settings with absolute paths, which hold in any working directory; this process's children inherit them."""
    os.environ.update(python_environment(os.environ) | absolute_paths(settings()))
    settings.cache_clear()
    return settings()


class _Stopped(BaseException):
    """A signal came while starting."""


def _on_signals(stopped: threading.Event) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        first = not stopped.is_set()
        stopped.set()
        if first and not _ready.is_set():
            raise _Stopped

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


_ready = threading.Event()


@contextlib.contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock; clear away what a killed server left."""
    with (state_dir / LOCK_FILE).open("w") as lock:
        _take(lock)
        _clear_stale(state_dir)
        try:
            yield
        finally:
            (state_dir / SERVER_FILE).unlink(missing_ok=True)


def _take(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise NotReady("A server of this state directory is running already; `miclip stop` ends it.") from None


def _clear_stale(state_dir: Path) -> None:
    stale = read_json(state_dir / SERVER_FILE) or {}
    with contextlib.suppress(psutil.Error, KeyError, TypeError):
        process = psutil.Process(stale["redis_pid"])
        if process.name().startswith("redis-server"):
            process.terminate()
            process.wait(10)
    if str(stale.get("temp_dir", "")).startswith(_temp_root()):
        shutil.rmtree(stale["temp_dir"], ignore_errors=True)


@contextlib.contextmanager
def _running(config: Settings, stopped: threading.Event) -> Iterator[ServerInfo]:
    """Everything up; everything down again at the end, in the reverse order."""
    with contextlib.ExitStack() as stack:
        temp_dir = Path(tempfile.mkdtemp(prefix="miclip-", dir=_temp_root()))
        stack.callback(shutil.rmtree, temp_dir, ignore_errors=True)
        _leave_working_directory(temp_dir)
        stack.callback(os.chdir, "/")  # the folder goes
        redis_url, redis_pid = _redis(config, temp_dir, stack)
        asyncio.run(_ensure_key(config, redis_url))
        grpc_port = chosen_port(config, "grpc_port")
        http_port = chosen_port(config, "http_port")
        exporter = _exporter(config, temp_dir, stack)
        os.environ.update(cluster_environment(config, temp_dir, redis_url))
        stack.callback(_keep_logs, temp_dir, config.state_dir)
        _say(config, "starting Ray")
        gpus = _start_ray(temp_dir, stack)
        _on_signals(stopped)
        _say(config, "starting the services")
        from services.node.ray_private import deploy  # Serve reads its flags when it is imported

        deploy(_serve_config(config, grpc_port, http_port, gpus))
        _wait_until_ready(config, grpc_port)
        _ready.set()
        yield ServerInfo(
            grpc=f"{config.host}:{grpc_port}",
            http=f"{config.host}:{http_port}",
            metrics=f"{config.host}:{exporter.port}",
            pid=os.getpid(),
            started_at=time.time(),
            ingress=config.ingress,
            redis_url=redis_url,
            redis_pid=redis_pid,
            temp_dir=str(temp_dir),
        )


def _leave_working_directory(temp_dir: Path) -> None:
    """Work in an empty folder: Ray puts the working directory on the path of every worker."""
    folder = temp_dir / "cwd"
    folder.mkdir()
    os.chdir(folder)


def _serve_config(config: Settings, grpc_port: int, http_port: int, gpus: float) -> dict[str, Any]:
    if config.serve_config:
        return read_serve_config(config.serve_config, grpc_port=grpc_port, http_port=http_port)
    return serve_config(config, grpc_port=grpc_port, http_port=http_port, gpus=gpus)


def _temp_root() -> str:
    root = tempfile.gettempdir()
    return root if len(root) <= _MAX_TEMP_DIR - len("/miclip-12345678") else "/tmp"


def _redis(config: Settings, temp_dir: Path, stack: contextlib.ExitStack) -> tuple[str, int]:
    if config.redis_url:
        return config.redis_url, 0
    from services.node.redis import EmbeddedRedis

    server = stack.enter_context(EmbeddedRedis(temp_dir, config.state_dir / "redis"))
    return server.url, server.pid


def _exporter(config: Settings, temp_dir: Path, stack: contextlib.ExitStack) -> Exporter:
    directory = metrics_dir(temp_dir)
    directory.mkdir(mode=0o700)
    return stack.enter_context(Exporter(directory, config.metrics_host, chosen_port(config, "metrics_port")))


async def _ensure_key(config: Settings, redis_url: str) -> None:
    """Make the local key at first start, and make sure that the store knows it."""
    from services.node.key_admin import ensure_local_key

    try:
        await ensure_local_key(redis_url, config.state_dir, config.api_key)
    except ValueError:
        raise InvalidInput(_NO_REDIS_URL, field="MICLIP_REDIS_URL") from None
    except NotReady:
        if not config.redis_url:
            raise
        where = urlsplit(redis_url)  # less its password
        place = f"{where.hostname}:{where.port or 6379}" if where.hostname else where.path
        raise NotReady(f"Redis at {place} (MICLIP_REDIS_URL) cannot be reached, or refuses its password.") from None


def _start_ray(temp_dir: Path, stack: contextlib.ExitStack) -> float:
    """Start Ray in this process's environment; returns the number of GPUs."""
    import ray

    ray.init(
        address="local",
        num_cpus=max(2, available_cpus()),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(temp_dir),
        namespace="serve",
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    stack.callback(_end_processes, psutil.Process().children(recursive=True))
    stack.callback(ray.shutdown)
    return float(ray.cluster_resources().get("GPU", 0))


def _wait_until_ready(config: Settings, grpc_port: int) -> None:
    """Return when all four services answer; raise NotReady with the reason when one cannot start."""
    from services.node.control import answers

    deadline = time.monotonic() + _READY_S
    waiting = list(APPLICATIONS)
    while waiting:
        ready = [name for name in waiting if answers(f"127.0.0.1:{grpc_port}", name)]
        for name in ready:
            log.info("%s answers", name)
        waiting = [name for name in waiting if name not in ready]
        if ready:
            _say(config, "waiting for " + ", ".join(waiting) if waiting else "all answer")
        _raise_if_failed()
        if time.monotonic() > deadline:
            raise NotReady(f"Not ready after {_READY_S:.0f} s: {', '.join(waiting)}.")
        if waiting:
            time.sleep(0.25)


def _raise_if_failed() -> None:
    from ray import serve

    for name, application in serve.status().applications.items():
        if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            log.error("%s: %s", name, application.message)
            for deployment in application.deployments.values():
                log.error("%s: %s", name, deployment.message)
            raise NotReady(f"The {name} service cannot start; the server's log says why.")


def _keep_logs(temp_dir: Path, state_dir: Path) -> None:
    """Keep the last run's replica logs, which would go with the temporary directory."""
    kept = state_dir / "logs" / "replicas"
    shutil.rmtree(kept, ignore_errors=True)
    source = temp_dir / "session_latest" / "logs"
    with contextlib.suppress(OSError, shutil.Error):
        kept.mkdir(parents=True)
        for path in (*source.glob("worker-*.err"), *source.glob("serve/*.log"), *source.glob("raylet.err")):
            if path.stat().st_size:
                shutil.copy(path, kept)


def _end_processes(processes: list[psutil.Process]) -> None:
    """End what Ray should have ended."""
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _say(config: Settings, stage: str, error: str = "") -> None:
    log.info("%s", stage)
    write_private(config.state_dir / STARTING_FILE, json.dumps({"pid": os.getpid(), "stage": stage, "error": error}))


if __name__ == "__main__":
    sys.exit(main())
