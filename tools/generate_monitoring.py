#!/usr/bin/env python3
"""Write k8s/dashboards and k8s/rules from ``tools/monitoring``, or with ``--check`` say which file is stale."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.monitoring import activation, alerts, overview, recording, retrieval, steering  # noqa: E402

BOARDS: tuple[Callable[[], Dashboard], ...] = (
    overview.overview,
    activation.activation,
    retrieval.retrieval,
    steering.steering,
)
NOTE = "# Written by `make monitoring` from tools/monitoring; change it there.\n"


def files() -> Iterator[tuple[Path, str]]:
    """Every file, and what it should hold."""
    for make in BOARDS:
        made = make().build()
        numbered = json.loads(json.dumps(made, cls=JSONEncoder))
        for number, panel in enumerate(numbered["panels"], start=1):
            panel["id"] = number  # links to a panel last only while its id does
        yield ROOT / "k8s" / "dashboards" / f"{made.uid}.json", json.dumps(numbered, indent=1, sort_keys=True) + "\n"
    rules = {"groups": [*recording.groups(), *alerts.groups()]}
    yield ROOT / "k8s" / "rules" / "miclip.rules.yaml", NOTE + _runbook() + _dump(rules)
    yield ROOT / "k8s" / "rules" / "prometheusrule.yaml", NOTE + _dump(_resource(rules))


def _runbook() -> str:
    paragraphs = "".join(f"#   {alerts.RUNBOOK}#{alert.anchor}\n" for alert in alerts.ALERTS)
    return f"# Every alert links to its paragraph of the runbook:\n{paragraphs}"


def _resource(rules: dict[str, Any]) -> dict[str, Any]:
    """The same rules for the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "miclip", "labels": {"app.kubernetes.io/part-of": "miclip"}},
        "spec": rules,
    }


class _Dumper(yaml.SafeDumper):
    """Writes text of many lines as a block."""

    def ignore_aliases(self, data: object) -> bool:
        """Write everything where it stands."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _dump(value: dict[str, Any]) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10_000))


def main() -> int:
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check, made = parser.parse_args().check, dict(files())
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text() != text]
    for folder, ending in (("dashboards", "json"), ("rules", "yaml")):
        known = {*made, ROOT / "k8s" / folder / "kustomization.yaml"}
        stale += [path for path in (ROOT / "k8s" / folder).glob(f"*.{ending}") if path not in known]
    if check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `make monitoring`.", file=sys.stderr)
        return bool(stale)
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(made)} files of k8s/dashboards and k8s/rules written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
