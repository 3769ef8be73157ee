"""Pictures of the dashboards: every panel in its place, with what its queries gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tools.monitoring.draw import COLUMN, GAP, HEAD, ROW, Source, draw
from tools.monitoring.read import boards, panels

pytestmark = pytest.mark.metrics

END = 1_700_000_000.0


def source(*, empty: bool) -> Source:
    labels = {"service": "activation", "model": "emoji-vit", "le": "0.5", "alertname": "MiclipLabelDrift"}
    values = [[END - 300 + 5 * step, str(1 + step % 3)] for step in range(60)]

    def ranged(_query: str) -> list[dict[str, Any]]:
        return [] if empty else [{"metric": labels, "values": values}]

    def instant(_query: str) -> list[dict[str, Any]]:
        return [] if empty else [{"metric": labels, "value": values[-1]}]

    return Source(instant, ranged, END - 300, END, lambda _query: "No data")


def pixels(board: dict[str, Any], made: Source, path: Path) -> Any:
    draw(board, made, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


@pytest.mark.parametrize("uid", ["miclip-overview", "miclip-retrieval"])
def test_every_panel_shows_what_its_queries_gave(uid: str, tmp_path: Path) -> None:
    board = boards()[uid]
    full, none = (pixels(board, source(empty=empty), tmp_path / f"{empty}.png") for empty in (False, True))
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    assert full.shape == none.shape == (rows * ROW + HEAD + GAP, 24 * COLUMN + 2 * GAP, 3)
    for panel in panels(board):
        at = panel["gridPos"]
        inside = np.s_[
            at["y"] * ROW + HEAD + 32 : (at["y"] + at["h"]) * ROW + HEAD - 6,
            at["x"] * COLUMN + GAP + 6 : (at["x"] + at["w"]) * COLUMN + GAP - 6,
        ]
        differs = (np.abs(full[inside] - none[inside]).max(axis=2) > 24).mean()
        assert differs > 0.002, panel["title"]
