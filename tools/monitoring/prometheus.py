"""A real Prometheus beside a running server, for tests and for pictures of the dashboards."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from miclip.errors import NotReady

_START_S = 60.0


class Prometheus:
    """Asks a Prometheus.

    Args:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What an instant query gives now; raises ValueError with Prometheus' own words when it is wrong."""
        return list(self._ask("query", query=expr)["result"])

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """What a query gives every ``step`` seconds."""
        return list(self._ask("query_range", query=expr, start=str(start), end=str(end), step=str(step))["result"])

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or fire."""
        return list(self._ask("alerts")["alerts"])

    def _ask(self, path: str, **parameters: str) -> dict[str, Any]:
        data = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{data}", timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code not in (400, 422):  # 503 while it starts
                raise
            raise ValueError(f"{json.load(error).get('error')}: {parameters.get('query')}") from error
        return dict(answer["data"])


@contextlib.contextmanager
def running(folder: Path, target: str, rules: Path | None = None, *, hold: str = "") -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``target`` every second while the block lasts.

    Args:
        folder: An empty directory for its files.
        target: ``host:port`` of ``/metrics``.
        rules: Rule file to evaluate every second.
        hold: How long the condition of every alert must last; default as the rules say.

    Raises:
        NotReady: it is not installed, or does not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise NotReady("prometheus is not installed; Debian's package prometheus has it.")
    job = {"job_name": "miclip", "static_configs": [{"targets": [target]}]}
    config: dict[str, Any] = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": [job]}
    if rules is not None:
        (folder / "rules.yml").write_text(_held(rules, hold))
        config["rule_files"] = ["rules.yml"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{_free_port()}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        made = Prometheus(address)
        _await(made, folder / "log")
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _held(rules: Path, hold: str) -> str:
    groups = yaml.safe_load(rules.read_text())
    for rule in (rule for group in groups["groups"] for rule in group["rules"]):
        if hold and "for" in rule:
            rule["for"] = hold
    return str(yaml.safe_dump(groups))


def _await(prometheus: Prometheus, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if prometheus.query("up == 1"):
                return
        time.sleep(0.2)
    raise NotReady(f"Prometheus does not scrape the server: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
