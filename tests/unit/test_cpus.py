"""Threads follow a pod's limit, not the size of its node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miclip.cpus import available_cpus


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))


def tree(root: Path, files: dict[str, str], own: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    (root / "own").write_text(own)
    return root / "cgroup", root / "own"


@pytest.mark.parametrize(
    ("files", "own", "cpus"),
    [
        pytest.param({"cpu.max": "400000 100000\n"}, "0::/\n", 4, id="a pod that sees its own group as the root"),
        pytest.param({"cpu.max": "max 100000\n"}, "0::/\n", 64, id="no limit"),
        pytest.param(
            {"pod/cpu.max": "250000 100000", "pod/a/cpu.max": "max 100000"}, "0::/pod/a\n", 2, id="of a parent"
        ),
        pytest.param(
            {"pod/cpu.max": "300000 100000", "cpu.max": "max 100000"}, "0::/other\n", 64, id="of another group"
        ),
        pytest.param({"cpu.max": "50000 100000"}, "0::/\n", 1, id="half a CPU"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "600000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            "5:memory:/\n2:cpu,cpuacct:/docker/123\n0::/\n",
            6,
            id="version 1, whose path the container does not see",
        ),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/\n", 64, id="-1"),
    ],
)
def test_the_limit_of_the_pod_counts(tmp_path: Path, files: dict[str, str], own: str, cpus: int) -> None:
    assert available_cpus(*tree(tmp_path, files, own)) == cpus


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cpus(tmp_path, tmp_path / "missing") == 64


def test_this_machine_gives_at_least_one_and_no_more_than_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)
