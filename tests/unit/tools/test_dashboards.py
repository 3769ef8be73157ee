"""The dashboards are those that tools/monitoring makes; every panel says what it shows, in which unit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.metrics.series import LABELS, SERIES

ROOT = Path(__file__).resolve().parents[3]
BOARDS = sorted((ROOT / "k8s" / "dashboards").glob("*.json"))
RECORDED = {
    rule["record"]: rule["expr"]
    for group in yaml.safe_load((ROOT / "k8s" / "rules" / "miclip.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule
}

pytestmark = pytest.mark.metrics


def panels(board: Path) -> Iterator[dict[str, Any]]:
    for panel in json.loads(board.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def every_panel() -> list[Any]:
    return [pytest.param(one, id=f"{board.stem}: {one['title']}") for board in BOARDS for one in panels(board)]


def every_query() -> list[Any]:
    return [
        pytest.param(target, id=f"{board.stem}: {one['title']} {target['refId']}")
        for board in BOARDS
        for one in panels(board)
        for target in one["targets"]
    ]


def test_dashboards_and_rules_are_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_monitoring.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_four_dashboards() -> None:
    assert [board.stem for board in BOARDS] == [
        f"miclip-{n}" for n in ("activation", "overview", "retrieval", "steering")
    ]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_data_source_and_namespace_can_be_chosen(board: Path) -> None:
    made = json.loads(board.read_text())
    variables = {one["name"]: one for one in made["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["namespace"]["allValue"] == ".*"
    assert "${datasource}" in json.dumps(variables["namespace"])
    used = set(re.findall(r"\$(namespace|model)\b", json.dumps(made["panels"])))
    assert used == variables.keys() - {"datasource"}, "each choice is one that a query heeds"
    assert made["uid"] == board.stem


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_panels_fill_the_width_and_do_not_overlap(board: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(board.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ends = {y for _, y in taken}
    assert all(sum(1 for _, row in taken if row == y) == 24 for y in ends)


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    spread = panel["type"] == "heatmap"
    assert panel["options"]["yAxis"]["unit"] if spread else panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    assert panel["type"] == "stat" or panel["maxDataPoints"] <= 500


@pytest.mark.parametrize("target", every_query())
def test_a_query_asks_for_series_that_there_are_and_keeps_few_labels(target: dict[str, Any]) -> None:
    expr = target["expr"]
    known = {one.name for one in SERIES} | RECORDED.keys() | {"ALERTS"}
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"([a-z_:A-Z0-9]+)\{", expr)}
    assert asked
    assert asked <= known
    assert 'namespace=~"$namespace"' in expr
    assert re.search(r"\b(sum|min|max|count|histogram_quantile)\b", expr), "nothing is shown replica by replica"
    kept = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expr) for label in labels.split(",")}
    assert kept - {"le", "instance"} <= LABELS.keys()
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept
    windows = set(re.findall(r"\[([^\]]+)\]", expr))
    assert windows <= {"5m", "15m", "$__rate_interval", "$__range"}
    assert "[$__rate_interval]" not in expr or target["range"], "a number of now has no interval"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_each_dashboard_has_its_picture(board: Path) -> None:
    name = f"dashboards/{board.stem.removeprefix('miclip-')}.png"
    assert f"]({name})" in (ROOT / "docs" / "dashboards.md").read_text()
    assert (ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG")
