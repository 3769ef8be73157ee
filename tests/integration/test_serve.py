"""``miclip serve`` as a person runs it: in the foreground, until Ctrl-C. Starts a server of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.faults, pytest.mark.slow]

PROGRAM = (sys.executable, "-m", "miclip.cli.app")


@pytest.mark.timeout(420)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_when_it_is_ready_and_a_signal_ends_all_of_it(tmp_path: Path, number: int) -> None:
    environment = {
        **os.environ,
        "MICLIP_STATE_DIR": str(tmp_path / "state"),
        "MICLIP_DATA_DIR": str(tmp_path / "data"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [*PROGRAM, "serve", "--port", "0", "--http-port", "0", "--json"]
    with _deaf_to_interrupts():
        serve = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with serve:
        try:
            assert serve.stdout is not None
            value = json.loads(_until_closing_brace(serve.stdout))
            assert Path(value["api_key_file"]).stat().st_mode & 0o777 == 0o600
            assert "api_key" not in value
            with urllib.request.urlopen(f"http://{value['metrics']}/metrics", timeout=10) as metrics:
                assert b"miclip_build_info{" in metrics.read()
            family = [psutil.Process(value["pid"]), *psutil.Process(value["pid"]).children(recursive=True)]
            second = subprocess.run(
                [*PROGRAM, "serve"], env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert second.returncode == 1
            assert "runs already" in second.stderr
            serve.send_signal(number)
            assert serve.wait(90) == 0
        finally:
            serve.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert not (tmp_path / "state" / "server.json").exists()


@pytest.mark.timeout(420)
def test_a_serve_whose_reader_goes_away_ends_its_server(tmp_path: Path) -> None:
    environment = {**os.environ, "MICLIP_STATE_DIR": str(tmp_path / "state"), "MICLIP_DATA_DIR": str(tmp_path / "data")}
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as closed:
        serve = subprocess.run(
            [*PROGRAM, "serve", "--port", "0", "--http-port", "0"], env=environment, stdout=closed,
            stderr=subprocess.PIPE, text=True, timeout=400, check=False,
        )  # fmt: skip
    assert serve.returncode == 0
    assert "Traceback" not in serve.stderr
    assert json.loads((tmp_path / "state" / "starting.json").read_text())["stage"] == "ready"
    assert not (tmp_path / "state" / "server.json").exists()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """As a shell script starts a program that it puts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _until_closing_brace(stream: object) -> str:
    lines: list[str] = []
    deadline = time.monotonic() + 360
    for line in stream:  # type: ignore[attr-defined]
        lines.append(line)
        if line.startswith("}") or time.monotonic() > deadline:
            break
    return "".join(lines)
