"""Every query of every panel and rule has data while the demo works, and what is provoked fires."""

from __future__ import annotations

import math
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from miclip.client import MiclipClient
from services.metrics.series import LABELS
from tools.monitoring.load import Load
from tools.monitoring.read import RULES, Window, boards, queries

pytestmark = [pytest.mark.metrics, pytest.mark.slow]

GPU_ONLY = "miclip_gpu_memory_bytes"
HAS_GPU = shutil.which("nvidia-smi") is not None
WITHOUT_A_GPU = {
    "miclip / GPU and batching: GPU memory in use A",
    "miclip / GPU and batching: GPU memory in use B",
    "miclip / GPU and batching: GPU memory left A",
    "MiclipGpuMemoryLow",
}
"""All that may be empty, and only on a machine without a GPU."""
COMPARISON = re.compile(r"\s*(?:[<>]=?|[=!]=)\s*-?[\d.e+-]+")
SELECTOR = re.compile(r"\b((?:miclip_|namespace(?:_\w+)?:)[\w:]+(?:\{[^}]*\})?)")


@pytest.fixture(scope="module")
def busy(worked: Any) -> Iterator[Load]:
    """Traffic of every kind that goes on."""
    with MiclipClient(endpoint=worked.grpc_endpoint, api_key=worked.api_key, timeout_s=120) as client:
        load, stop = Load(client), threading.Event()
        load.tour()
        thread = threading.Thread(target=load.run, args=(stop,))
        thread.start()
        try:
            yield load
        finally:
            stop.set()
            thread.join()


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alert_queries() -> dict[str, str]:
    """The value that each alert compares, whatever it is."""
    return {
        rule["alert"]: COMPARISON.sub("", rule["expr"].partition(" unless ")[0]) for rule in rules() if "alert" in rule
    }


def without_data(prometheus: Any, asked: dict[str, str], seconds: float) -> dict[str, str]:
    """The queries that have given no number after some time, with what is wrong about their answers."""
    left, deadline = dict(asked), time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        left = {name: query for name, query in left.items() if not has_number(prometheus.query(query))}
        time.sleep(1 if left else 0)
    return left


def has_number(found: list[dict[str, Any]]) -> bool:
    assert len(found) <= 60, "a panel or rule gives few lines"
    for one in found:
        assert one["metric"].keys() <= {*LABELS, "namespace", "instance", "alertname", "le", "__name__", "job"}
    return any(math.isfinite(float(one["value"][1])) for one in found)


def test_every_query_of_every_panel_has_data(busy: Load, prometheus: Any) -> None:
    asked = {name: Window().fill(query) for board in boards().values() for name, query in queries(board)}
    annotations = {name for name in asked if name.endswith("Alerts that fire")}  # nothing was provoked yet
    assert len(annotations) == 4
    expected = set() if HAS_GPU else {name for name in WITHOUT_A_GPU if name in asked}
    assert expected == {name for name, query in asked.items() if GPU_ONLY in query and not HAS_GPU}
    wanted = {name: query for name, query in asked.items() if name not in annotations | expected}
    assert len(wanted) > 60
    assert without_data(prometheus, wanted, 90) == {}
    assert {name for name in expected if has_number(prometheus.query(asked[name]))} == set()


def test_every_rule_has_data(busy: Load, prometheus: Any) -> None:
    recorded = {rule["record"]: rule["record"] for rule in rules() if "record" in rule}
    compared = {name: query for name, query in alert_queries().items() if HAS_GPU or name not in WITHOUT_A_GPU}
    assert len(recorded) == 8
    assert len(compared) >= 18
    assert without_data(prometheus, recorded | compared, 60) == {}


def test_every_series_that_a_rule_asks_for_is_there(busy: Load, prometheus: Any) -> None:
    asked = {selector for rule in rules() for selector in SELECTOR.findall(rule["expr"])}
    assert len(asked) > 25
    wanted = {selector: f"count({selector})" for selector in asked if HAS_GPU or GPU_ONLY not in selector}
    assert without_data(prometheus, wanted, 60) == {}


def firing(prometheus: Any) -> set[str]:
    return {one["labels"]["alertname"] for one in prometheus.alerts() if one["state"] == "firing"}


def until_fires(prometheus: Any, name: str, provoke: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while name not in firing(prometheus):
        assert time.monotonic() < deadline, f"{name} does not fire"
        provoke()


def test_what_is_provoked_fires_and_stops(worked: Any, prometheus: Any) -> None:
    steering = '{alertname="MiclipSteeringStopped",alertstate="firing"}'
    with MiclipClient(endpoint=worked.grpc_endpoint, api_key=worked.api_key, timeout_s=120) as client:
        load = Load(client)
        until_fires(prometheus, "MiclipLabelDrift", lambda: load.predict_one_image(4, "emoji-resnet"))
        until_fires(prometheus, "MiclipSteeringStopped", load.stop_for_a_moment)
    (alert,) = (one for one in prometheus.alerts() if one["labels"]["alertname"] == "MiclipLabelDrift")
    assert alert["labels"]["model"] == "emoji-resnet"
    assert float(alert["value"]) < 0.5
    assert prometheus.query(f"ALERTS{steering}")
    annotations = [
        Window().fill(query) for board in boards().values() for name, query in queries(board) if "ALERTS" in query
    ]
    assert len(annotations) == 5
    assert all(has_number(prometheus.query(query)) for query in annotations)


def test_a_server_that_works_raises_no_alarm(worked: Any, prometheus: Any) -> None:
    assert not firing(prometheus) & {
        "MiclipServiceDown", "MiclipInternalErrors", "MiclipPoliciesStale", "MiclipRedisErrors", "MiclipOverloaded",
        "MiclipIndexRecallLow", "MiclipAlignmentsFail", "MiclipVersionsDiffer", "MiclipGpuMemoryLow",
    }  # fmt: skip
