#!/usr/bin/env python3
"""Write ``docs/metrics.md`` from ``services/metrics/series.py``, or with ``--check`` say whether it is stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from services.metrics.series import LABELS, SERIES  # noqa: E402  # the tree that this file is in

PAGE = ROOT / "docs" / "metrics.md"
INTRODUCTION = """\
# Metrics

<!-- Written by tools/generate_metrics_docs.py (make docs) from services/metrics/series.py. -->

`miclip serve` prints the address of `/metrics`, by default `http://127.0.0.1:9464/metrics`. It needs no key and shows
none, nor anything else of a request. `MICLIP_METRICS_PORT` sets the port; set `MICLIP_METRICS_HOST=0.0.0.0` for a
Prometheus on another machine.

One endpoint speaks for all replica processes of a machine or pod. The last column says how their values become one.
Counters and histograms keep what ended processes counted; gauges lose it at once.
Where KubeRay starts the replicas, every pod has a container `exporter` for it (`k8s/base/rayservice.yaml`), which sees
the replicas' processes and the directory `PROMETHEUS_MULTIPROC_DIR` that they write to.

Calls between the services are in no `miclip_rpc_*` series, but in the stages of the service that answers.
[dashboards.md](dashboards.md) shows what to make of the series: Grafana dashboards, objectives and alerts.
"""


def page() -> str:
    """The page as it should be."""
    lines = [INTRODUCTION, "| series | kind | labels | what it says | processes |", "|---|---|---|---|---|"]
    for one in SERIES:
        labels = ", ".join(f"`{label}`" for label in one.labels) or "–"
        text = f"{one.help} Only where {one.when}." if one.when else one.help
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {text} | {one.merged} |")
    lines += ["", "A histogram `NAME` is exported as `NAME_bucket` (with `le`), `NAME_sum` and `NAME_count`.", ""]
    lines += ["| label | values |", "|---|---|", *(f"| `{name}` | {values} |" for name, values in LABELS.items()), ""]
    return "\n".join(lines)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is stale")
    if parser.parse_args().check:
        if PAGE.is_file() and PAGE.read_text() == page():
            return 0
        sys.stderr.write("docs/metrics.md is stale; `make docs` writes it anew.\n")
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
