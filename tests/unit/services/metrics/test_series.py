"""The definitions of the series, and one exporter for many processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.aligner.worker import StepClock
from services.metrics import series
from services.metrics.exporter import Exporter

pytestmark = pytest.mark.metrics

ROOT = Path(__file__).parents[4]

REPLICA = """
import sys
from services.metrics import series
series.started("aligner")
for _ in range(int(sys.argv[1])):
    series.CACHE_LOOKUPS.labels("hit").inc()
    series.BATCH_ROWS.labels("m").observe(3)
from prometheus_client import Gauge, REGISTRY
Gauge("ray_something", "Of another program.", multiprocess_mode="livesum").set(1)
print("ready", flush=True)
sys.stdin.read()
"""


class Replica:
    """A process that counts, then waits until it is told to end."""

    def __init__(self, directory: Path, count: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", REPLICA, str(count)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def read(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    keyed = {}
    for family in families:
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            keyed[f"{one.name}{{{labels}}}"] = one.value
    return keyed


def test_one_endpoint_adds_up_all_processes_and_outlives_them(tmp_path: Path) -> None:
    hits, rows = "miclip_embedding_cache_lookups_total{result=hit}", "miclip_batch_rows_bucket{le=4.0,model=m}"
    replicas = "miclip_replicas{service=aligner}"
    running = [Replica(tmp_path, count) for count in (1, 2)]
    (tmp_path / f"counter_{os.getpid()}.db").touch()  # a process that has not written yet
    (tmp_path / "counter_4194305.db").touch()  # one beyond the largest id, killed before it wrote
    with Exporter(tmp_path, "127.0.0.1", 0) as exporter:
        try:
            found = read(exporter.port)
            assert (found[hits], found[rows], found[replicas]) == (3, 3, 2)
            running[0].kill()
            for _ in range(2):
                found = read(exporter.port)
                assert (found[hits], found[rows], found[replicas]) == (3, 3, 1), "gauges go, counters stay"
            running.append(Replica(tmp_path, 4))
            running[1].kill()
            found = read(exporter.port)
            assert (found[hits], found[rows], found[replicas]) == (7, 7, 1)
            (tmp_path / f"counter_{os.getpid()}.db").unlink()
        finally:
            for replica in running:
                replica.kill()
        found = read(exporter.port)
        assert (found[hits], found[rows]) == (7, 7)
        assert replicas not in found
        assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_ended.db", "histogram_ended.db"]
        assert all(name.startswith("miclip_") for name in found), "what others write is not shown"


def test_an_exporter_of_its_own_serves_a_pod_until_it_is_ended(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MICLIP_METRICS_PORT": "0"}
    command = [sys.executable, "-m", "services.metrics.exporter"]
    told = {**environment, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        replica = Replica(tmp_path, 5)
        try:
            found = read(int(url.rpartition(":")[2].partition("/")[0]))
        finally:
            replica.kill()
        assert found["miclip_embedding_cache_lookups_total{result=hit}"] == 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    untold = {name: value for name, value in environment.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    refused = subprocess.run(command, env=untold, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "PROMETHEUS_MULTIPROC_DIR" in refused.stderr


@pytest.mark.parametrize("exported", series.SERIES, ids=lambda one: one.name)
def test_names_and_labels_follow_the_rules(exported: series.Series) -> None:
    assert exported.name.startswith(series.PREFIX)
    assert (exported.kind == "counter") == exported.name.endswith("_total")
    assert not any(unit in exported.name for unit in ("_ms", "_millis", "_mb", "_kb", "_percent"))
    assert not {"key", "key_id", "request_id", "unit", "image", "policy", "user", "pid"} & set(exported.labels)
    assert set(exported.labels) <= series.LABELS.keys()
    assert exported.labels, "one without would be 0 in every process"
    assert exported.help.endswith(".")


def test_every_label_is_used() -> None:
    assert {label for one in series.SERIES for label in one.labels} == series.LABELS.keys()


def test_gpu_memory_is_noted_where_there_is_a_gpu_and_not_elsewhere() -> None:
    def value(service: str, kind: str) -> float | None:
        labels = {"service": service, "device": "0", "kind": kind}
        return series.REGISTRY.get_sample_value("miclip_gpu_memory_bytes", labels)

    cuda = SimpleNamespace(
        is_available=lambda: False,
        device_count=lambda: 1,
        memory_allocated=lambda _: 1,
        memory_reserved=lambda _: 2,
        mem_get_info=lambda _: (3, 4),
    )
    series.watch_gpu("activation", SimpleNamespace(cuda=cuda))
    assert value("activation", "total") is None
    cuda.is_available = lambda: True
    for service in ("activation", "aligner"):
        series.watch_gpu(service, SimpleNamespace(cuda=cuda))
    kinds = ("allocated", "reserved", "free", "total")
    assert [value("activation", kind) for kind in kinds] == [1, 2, 3, 4]
    assert [value("aligner", kind) for kind in kinds] == [1, 2, None, None], "the device is counted once"


def test_the_steps_of_an_alignment_are_timed_from_one_to_the_next() -> None:
    def count(step: str) -> float:
        return series.REGISTRY.get_sample_value("miclip_alignment_step_duration_seconds_count", {"step": step}) or 0

    steps = ("loading", "activations", "encoder", "labels", "atlas")
    before, clock = [count(step) for step in steps], StepClock()
    for step in ("loading", "activations", "activations", "encoder", "encoder", "labels", "encoder", ""):
        clock.enter(step)
    rises = [count(step) - had for step, had in zip(steps, before, strict=True)]
    assert rises == [1, 1, 2, 1, 0]


def test_the_documentation_is_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_metrics_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
