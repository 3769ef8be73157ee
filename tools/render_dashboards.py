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
from tools.monitoring.draw import Source, draw, series_of  # noqa: E402
from tools.monitoring.load import Load  # noqa: E402
from tools.monitoring.prometheus import Prometheus, running  # noqa: E402
from tools.monitoring.read import RULES, Window, boards, panels  # noqa: E402

PICTURES = ROOT / "docs" / "dashboards"
USERS = 6
CROWD = 12  # more for a while, without pauses
MAX_QUEUED = 4  # fewer than a crowd: some calls are refused
STEP_S = 5.0


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Any]:
    """A server with everything private to it."""
    from services.node import control

    ports = {f"MICLIP_{name}_PORT": "0" for name in ("GRPC", "HTTP", "METRICS")}
    dirs = {"MICLIP_STATE_DIR": str(folder / "state"), "MICLIP_DATA_DIR": str(folder / "data")}
    os.environ.update({**ports, **dirs, "MICLIP_MAX_QUEUED": str(MAX_QUEUED), "HF_HUB_OFFLINE": "1"})
    settings.cache_clear()
    try:
        yield control.start(progress=print)
    finally:
        control.stop()


def work(client: MiclipClient, seconds: float) -> None:
    """Users who come and go, an alignment, and at the end images unlike the probe set."""
    stop, began = threading.Event(), time.monotonic()
    threads = [threading.Thread(target=_user, args=(client, seed, stop, began)) for seed in range(USERS)]
    threads.append(threading.Thread(target=_once, args=(lambda: Load(client).align(steps=60),)))
    for thread in threads:
        thread.start()
    time.sleep(0.45 * seconds)
    threads += _crowd(client, 0.1 * seconds)
    time.sleep(0.3 * seconds)
    drifting = Load(client, seed=99)
    while time.monotonic() - began < seconds:
        drifting.predict_one_image(1, "emoji-vit")
        time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()


def _crowd(client: MiclipClient, seconds: float) -> list[threading.Thread]:
    """Many users at once for a while, all of whom want predictions."""
    until = time.monotonic() + seconds

    def hurry(seed: int) -> None:
        while time.monotonic() < until:
            _once(lambda: Load(client, seed).predict_many(20))

    threads = [threading.Thread(target=hurry, args=(100 + seed,)) for seed in range(CROWD)]
    for thread in threads:
        thread.start()
    return threads


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
        time.sleep(0.5)


class Recorder:
    """Asks a Prometheus about the last seconds, and keeps what it answered.

    Args:
        prometheus: Whom to ask; None: nobody, all is known.
        start: Of the shown time, in seconds since the epoch.
        end: Of the shown time.
        answers: What is known.
    """

    def __init__(
        self, prometheus: Prometheus | None, start: float, end: float, answers: dict[str, list[dict[str, Any]]]
    ) -> None:
        self._prometheus, self.start, self.end, self.answers = prometheus, start, end, answers
        self._window = Window(interval="20s", span=f"{int(end - start)}s")

    @classmethod
    def read(cls, path: Path) -> Recorder:
        """What another run kept."""
        kept = json.loads(path.read_text())
        return cls(None, kept["start"], kept["end"], kept["answers"])

    def keep(self, path: Path) -> None:
        """Write what was answered."""
        path.write_text(json.dumps({"start": self.start, "end": self.end, "answers": self.answers}))

    def source(self) -> Source:
        """For drawing."""
        return Source(self._instant, self._ranged, self.start, self.end, _why_empty)

    def _instant(self, expr: str) -> list[dict[str, Any]]:
        query = self._window.fill(expr)
        if self._prometheus:
            self.answers[f"now {expr}"] = self._prometheus.query(query)
        return self.answers[f"now {expr}"]

    def _ranged(self, expr: str) -> list[dict[str, Any]]:
        query = self._window.fill(expr)
        if self._prometheus:
            self.answers[expr] = self._prometheus.query_range(query, self.start, self.end, STEP_S)
        return self.answers[expr]


def _why_empty(query: str) -> str:
    return "There is no GPU on this machine" if "gpu" in query else "No data"


def pictures(recorder: Recorder, folder: Path) -> None:
    """Ask every panel's queries, and draw."""
    folder.mkdir(parents=True, exist_ok=True)
    for uid, board in boards().items():
        path = folder / f"{uid.removeprefix('miclip-')}.png"
        draw(board, recorder.source(), path)
        print(path)


def watch(seconds: float) -> Recorder:
    """Let a server work, and ask the Prometheus that watches it everything."""
    with tempfile.TemporaryDirectory(prefix="miclip-pictures-") as name:
        folder = Path(name)
        (folder / "prometheus").mkdir()
        with serving(folder) as info, running(folder / "prometheus", info.metrics, RULES) as prometheus:
            with MiclipClient(endpoint=info.grpc, attempts=2, timeout_s=60) as client:
                work(client, seconds)
            end = time.time()
            recorder = Recorder(prometheus, end - seconds + 10, end, {})
            for board in boards().values():
                recorder.source().ranged(board["annotations"]["list"][0]["expr"])
                for panel in panels(board):
                    series_of(panel, recorder.source())
    return recorder


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="how long the server works")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures")
    parser.add_argument("--keep", type=Path, help="also write every query's answer to this JSON file")
    parser.add_argument("--redraw", type=Path, help="start nothing; draw what --keep has written")
    chosen = parser.parse_args()
    recorder = Recorder.read(chosen.redraw) if chosen.redraw else watch(60 * chosen.minutes)
    if chosen.keep:
        recorder.keep(chosen.keep)
    pictures(Recorder(None, recorder.start, recorder.end, recorder.answers), chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
