"""A real Chromium without a network, spoken to over a pipe; and one report of the shipped models."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miclip.evaluation.figures import ByScale, Figure
from miclip.evaluation.measures import Cost, Costs, Effect, Localization, Verdict
from miclip.evaluation.result import NAMES, Result, Target, Units

PROGRAM = "chromium"
_OFFLINE = "MAP * ~NOTFOUND"


class Chromium:
    """One headless browser and one page in it; Chrome DevTools Protocol over file descriptors 3 and 4.

    Attributes:
        events: What the page reported since it was opened last, as (method, parameters).
    """

    def __init__(self, profile: Path) -> None:
        read, self._down = os.pipe()
        self._up, write = os.pipe()
        command = [
            PROGRAM, "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", f"--host-resolver-rules={_OFFLINE}",
            f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank",
        ]  # fmt: skip
        shell = f'exec "$@" 3<&{read} 4>&{write} {read}<&- {write}>&-'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command], pass_fds=(read, write), stderr=subprocess.DEVNULL
        )
        os.close(read)
        os.close(write)
        self._ids, self._buffer, self._session = itertools.count(1), b"", ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._down, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, path: Path) -> None:
        """Open a file and wait until all of it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._receive()

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is in the page, promises awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def requested(self) -> list[str]:
        """Return the address of everything that the page asked for."""
        return [event["request"]["url"] for method, event in self.events if method == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Return what the page complained of: errors, and what its policy refused."""
        logged = [event["entry"]["text"] for method, event in self.events if method == "Log.entryAdded"]
        thrown = [str(event) for method, event in self.events if method == "Runtime.exceptionThrown"]
        return logged + thrown

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(20)
        os.close(self._down)
        os.close(self._up)

    def _receive(self, seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._up], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._up, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        first, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert shutil.which(PROGRAM), f"there is no program {PROGRAM!r}: install Debian's package of that name"
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def _effect(target: float) -> Effect:
    def figure(value: float, half: float = 1.0) -> Figure:
        return Figure(value=value, low=value - half, high=value + half)

    weighted = figure(0.8 * target)
    return Effect(target=figure(target), others=figure(-0.2, 0.1), specificity=figure(0.8, 0.1), weighted=weighted)


def _units(layer: str) -> Units:
    gains = {"random": 0.1, "clip_dissect": 3.0, "attribution": 5.0, "oracle": 5.5}
    methods = {name: ByScale[Effect](scale_2=_effect(gain), scale_0=_effect(-2 * gain)) for name, gain in gains.items()}
    lead, share = Figure(value=1.6, low=0.6, high=2.6), Figure(value=0.91, low=0.8, high=1.0)
    verdict = Verdict(share_of_oracle=share, best_baseline="clip_dissect", lead=lead)
    verdicts = ByScale[Verdict](scale_2=verdict, scale_0=verdict)
    localization = Localization(methods=methods, verdict=verdicts, evidence=None)
    return Units(
        layer=layer, units="neurons", dictionary="", labels={"default": 95.0, "clip_dissect": 70.0}, agreement={},
        localizations={NAMES: localization, "synonyms": localization}, descriptions={},
    )  # fmt: skip


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the two shipped models, with real pictures; its figures are made up."""
    from miclip.cli.report import write_report

    steps = {"encoder": Cost(seconds=12.5, gflop=1.0, peak_mb=10.0)}
    layers = {"emoji-resnet": ("layer3", "layer4"), "emoji-vit": ("blocks.2", "norm")}
    targets = {
        name: Target(
            held_out_top1=80.0, judged_on="some images", aligned_on="others", places=tuple(map(_units, some)),
            unseen=None,
            cost=Costs(layer=some[1], units=256, images=2560, steps=steps, needs={"filter": ("encoder",)}),
        )
        for name, some in layers.items()
    }  # fmt: skip
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(Result(methods=(), targets=targets), out, "--out")
    return out
