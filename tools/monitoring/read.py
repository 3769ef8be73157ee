"""Reads the dashboards as Grafana does: panels in their places, queries with the variables filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "k8s" / "rules" / "miclip.rules.yaml"
DASHBOARDS = ROOT / "k8s" / "dashboards"


@dataclass(frozen=True)
class Window:
    """What a viewer shows.

    Attributes:
        interval: For ``$__rate_interval``.
        span: For ``$__range``.
    """

    interval: str = "15s"
    span: str = "5m"

    def fill(self, expr: str) -> str:
        """The query with all variables filled in, every choice being "All"."""
        values = {"$__rate_interval": self.interval, "$__range": self.span, "$namespace": ".*", "$model": ".*"}
        for name, value in values.items():
            expr = expr.replace(name, value)
        return expr


def boards() -> dict[str, dict[str, Any]]:
    """The dashboards by their uid."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard, without the headings."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and query of every target of every panel, and of the annotations."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield f"{board['title']}: {panel['title']} {target['refId']}", target["expr"]
    for annotation in board["annotations"]["list"]:
        yield f"{board['title']}: {annotation['name']}", annotation["expr"]
