"""One ``/metrics`` for all processes of a pod.

    with Exporter(directory, "127.0.0.1", 9464) as exporter:
        ...                                    # Prometheus scrapes exporter.port

The server runs one in a thread. Where replicas are started by others (KubeRay), run one a pod, in a container that sees
the replicas' processes and their ``PROMETHEUS_MULTIPROC_DIR``: ``python -m services.metrics.exporter``.

Every process writes files that carry its process id. When it has ended, its gauges go with it; its counters are added
to one file for all ended processes, so that sums never fall and files do not pile up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import start_wsgi_server
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from miclip.settings import settings
from services.metrics.series import PREFIX

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_ENDED = "ended"


class PodCollector:
    """Adds up the files of all processes.

    Args:
        directory: Where they write.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._lock = directory, threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """The series of miclip; Ray's own processes inherit the directory, and what they write is theirs."""
        with self._lock:
            self._fold_ended()
            files = [str(path) for path in self._directory.glob("*.db") if path.stat().st_size]  # 0: being made
            return [found for found in MultiProcessCollector.merge(files) if found.name.startswith(PREFIX)]

    def _fold_ended(self) -> None:
        """Take in the files of processes that have ended."""
        for path in self._directory.glob("*_*.db"):
            kind, process = path.stem.split("_", 1)[0], path.stem.rsplit("_", 1)[1]
            if process == _ENDED or psutil.pid_exists(int(process)):
                continue
            if kind in ("counter", "histogram") and path.stat().st_size:
                self._add(path, path.with_name(f"{kind}_{_ENDED}.db"))
            path.unlink(missing_ok=True)

    def _add(self, path: Path, total: Path) -> None:
        ended = MmapedDict(str(total))
        try:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):
                ended.write_value(key, ended.read_value(key)[0] + value, 0.0)
        finally:
            ended.close()


class Exporter:
    """Serves ``/metrics`` from a thread of its own while the block lasts.

    Args:
        directory: Where the processes write.
        host: Interface to listen on.
        port: Port to listen on; 0 takes any.

    Attributes:
        port: The port that it listens on.
    """

    def __init__(self, directory: Path, host: str, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(PodCollector(directory))
        self._server, self._thread = start_wsgi_server(port, addr=host, registry=registry)
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def main() -> int:
    """Serve the metrics of this pod until SIGTERM or SIGINT."""
    if not os.environ.get(VARIABLE):
        sys.stderr.write(f"Set {VARIABLE} to the directory that the replicas write their metrics to.\n")
        return 2
    directory = Path(os.environ[VARIABLE])
    directory.mkdir(parents=True, exist_ok=True)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopped.set())
    config = settings()
    with Exporter(directory, config.metrics_host, config.metrics_port) as exporter:
        sys.stdout.write(f"http://{config.metrics_host}:{exporter.port}/metrics\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
