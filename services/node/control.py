"""Start, watch and stop a server on this machine.

    info = start(progress=print)     # returns when all four services answer
    wait(info)                       # until it ends
    stop()

The server is a process of its own in its own session, so it outlives the terminal; a foreground ``miclip serve`` starts
it, waits, and stops it at Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from miclip.errors import NotReady
from miclip.local_server import APPLICATIONS, LOG_FILE, SERVER_FILE, STARTING_FILE, ServerInfo, read_json
from miclip.settings import settings
from services.node.environment import python_environment

_START_S = 330.0
_STOP_S = 60.0
_children: list[subprocess.Popen[bytes]] = []  # a Popen that is dropped while its process runs warns


def start(progress: Callable[[str], None] | None = None) -> ServerInfo:
    """Start a server, or find the one that runs; return when all four services answer.

    Args:
        progress: Called with a line at every stage.

    Raises:
        NotReady: it could not start; the text says why and where the log is.
    """
    running = status()
    if running is not None:
        return running
    state_dir = settings().state_dir
    (state_dir / STARTING_FILE).unlink(missing_ok=True)
    process = _spawn(state_dir / LOG_FILE)
    _children.append(process)
    try:
        return _await_ready(process, state_dir, progress or (lambda _line: None))
    except BaseException:
        _end(process.pid)
        process.wait()
        raise


def status() -> ServerInfo | None:
    """The server of this state directory; None when none runs."""
    try:
        info = ServerInfo.model_validate(read_json(settings().state_dir / SERVER_FILE))
    except ValidationError:
        return None
    return info if _is_server(info.pid) else None


def health(info: ServerInfo) -> dict[str, bool]:
    """Which of the four services answer now."""
    return {name: answers(info.grpc, name) for name in APPLICATIONS}


def wait(info: ServerInfo) -> None:
    """Return when the server has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(info.pid).wait()


def stop() -> bool:
    """End the server cleanly; False when none ran."""
    info = status()
    if info is None:
        return False
    _end(info.pid)
    for child in _children:
        child.poll()
    return True


def answers(target: str, application: str, timeout_s: float = 2.0) -> bool:
    """Whether a service answers its health check."""
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            answer = check(health_pb2.HealthCheckRequest(), metadata=[("application", application)], timeout=timeout_s)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _spawn(log_path: Path) -> subprocess.Popen[bytes]:
    log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "services.node.process"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **python_environment(os.environ)},
        )


def _await_ready(process: subprocess.Popen[bytes], state_dir: Path, progress: Callable[[str], None]) -> ServerInfo:
    stage, deadline = "", time.monotonic() + _START_S
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        said = read_json(state_dir / STARTING_FILE) or {}
        if said.get("pid") == process.pid and said.get("stage") != stage:
            stage = str(said["stage"])
            progress(stage)
        info = status()
        if info is not None and info.pid == process.pid:
            return info
        if ended:
            reason = said.get("error") or "The server ended while starting."
            raise NotReady(f"{reason} Its log: {state_dir / LOG_FILE}")
        time.sleep(0.1)
    raise NotReady(f"The server was not ready after {_START_S:.0f} s. Its log: {state_dir / LOG_FILE}")


def _is_server(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "services.node.process" in process.cmdline()
    except psutil.Error:
        return False


def _end(pid: int) -> None:
    """Ask the server to stop; kill it and its children when it does not."""
    if not _is_server(pid):
        return
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    process.terminate()
    with contextlib.suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
        process.wait(_STOP_S)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
