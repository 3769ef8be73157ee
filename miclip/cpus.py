"""CPUs that this process may use: a pod's limit, where ``os.cpu_count`` would say the node's.

Too many threads of torch under a limit wait for each other while the kernel holds all of them back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cpus(mount: Path = _MOUNT, own: Path = _OWN) -> int:
    """The least of the process's affinity and the quotas of its control groups, rounded down; at least 1.

    Args:
        mount: Where the control groups are mounted, of version 1 or 2.
        own: Names the groups of this process, as the kernel does.
    """
    return max(1, int(min([len(os.sched_getaffinity(0)), *_quotas(mount, own)])))


def _quotas(mount: Path, own: Path) -> Iterator[float]:
    """CPUs of every group with a quota, from the process's own up to the root that it sees."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        root = mount if not controllers else mount / "cpu"
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (quota := _quota(folder)) is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """CPUs of one group; None without a quota."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError):  # not there, or "max"
        return None
