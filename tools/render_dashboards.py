#!/usr/bin/env python3
"""Draw the dashboards from real data: start a server of its own, put it under load, let a Prometheus watch, and ask it.

The pictures hold what the panels' own queries gave; tools/monitoring/draw.py draws them as Grafana would.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from miclip.client import MiclipClient  # noqa: E402
from miclip.settings import settings  # noqa: E402
from tools.monitoring.draw import Source, draw  # noqa: E402
from tools.monitoring.load import Load  # noqa: E402
from tools.monitoring.prometheus import Prometheus, running  # noqa: E402
from tools.monitoring.read import RULES, Window, boards  # noqa: E402

PICTURES = ROOT / "docs" / "dashboards"
USERS = 6
MAX_QUEUED = 5  # fewer than there are users: some calls are refused
STEP_S = 5.0


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Any]:
    """A server with everything private to it."""
    from services import server

    ports = {f"MICLIP_{name}_PORT": "0" for name in ("GRPC", "HTTP", "METRICS")}
    dirs = {"MICLIP_STATE_DIR": str(folder / "state"), "MICLIP_DATA_DIR": str(folder / "data")}
    os.environ.update({**ports, **dirs, "MICLIP_MAX_QUEUED": str(MAX_QUEUED), "HF_HUB_OFFLINE": "1"})
    settings.cache_clear()
    try:
        yield server.start(progress=print)
    finally:
        server.stop()


def work(client: MiclipClient, seconds: float) -> None:
    """Users who come and go, an alignment, and at the end images unlike the probe set."""
    stop, began = threading.Event(), time.monotonic()
    threads = [threading.Thread(target=_user, args=(client, seed, stop, began)) for seed in range(USERS)]
    threads.append(threading.Thread(target=_once, args=(lambda: Load(client).align(steps=60),)))
    for thread in threads:
        thread.start()
    time.sleep(0.75 * seconds)
    drifting = Load(client, seed=99)
    while time.monotonic() - began < seconds:
        drifting.predict_one_image(1, "emoji-vit")
        time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()


def _user(client: MiclipClient, seed: int, stop: threading.Event, began: float) -> None:
    chance = random.Random(seed)

    def pause() -> float:
        wave = 0.5 + 0.5 * math.sin((time.monotonic() - began) / 45 + seed / 2)
        return chance.expovariate(0.3 + 4 * wave)

    while not stop.is_set():
        _once(lambda: Load(client, seed=chance.randrange(10**6)).run(stop, pause))


def _once(task: Callable[[], object]) -> None:
    """A user who is refused too often gives up, and comes back."""
    try:
        task()
    except Exception as error:
        print(f"a user gave up: {type(error).__name__}", file=sys.stderr)


def pictures(prometheus: Prometheus, seconds: float, folder: Path) -> None:
    """Ask every panel's queries, and draw."""
    end = time.time()
    window = Window(interval="20s", span=f"{int(seconds)}s")
    source = Source(
        instant=lambda query: prometheus.query(window.fill(query)),
        ranged=lambda query: prometheus.query_range(window.fill(query), end - seconds, end, STEP_S),
        start=end - seconds,
        end=end,
        empty=lambda query: "There is no GPU on this machine" if "gpu" in query else "No data",
    )
    folder.mkdir(parents=True, exist_ok=True)
    for uid, board in boards().items():
        draw(board, source, folder / f"{uid.removeprefix('miclip-')}.png")
        print(folder / f"{uid.removeprefix('miclip-')}.png")


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="how long the server works")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures")
    parser.add_argument("--keep", type=Path, help="also write every query's answer to this JSON file")
    chosen = parser.parse_args()
    seconds = 60 * chosen.minutes
    with tempfile.TemporaryDirectory(prefix="miclip-pictures-") as name:
        folder = Path(name)
        (folder / "prometheus").mkdir()
        with serving(folder) as info, running(folder / "prometheus", info.metrics, RULES) as prometheus:
            with MiclipClient(endpoint=info.grpc, attempts=2, timeout_s=60) as client:
                work(client, seconds)
            recorder = Recorder(prometheus)
            pictures(recorder, seconds - 10, chosen.out)
            if chosen.keep:
                chosen.keep.write_text(json.dumps(recorder.answers))
    return 0


class Recorder(Prometheus):
    """Keeps what was answered.

    Args:
        prometheus: Whom to ask.
    """

    def __init__(self, prometheus: Prometheus) -> None:
        super().__init__(prometheus.address)
        self.answers: dict[str, list[dict[str, Any]]] = {}

    def query(self, expr: str) -> list[dict[str, Any]]:
        """As ``Prometheus.query``."""
        self.answers[expr] = super().query(expr)
        return self.answers[expr]

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """As ``Prometheus.query_range``."""
        self.answers[expr] = super().query_range(expr, start, end, step)
        return self.answers[expr]


if __name__ == "__main__":
    sys.exit(main())
