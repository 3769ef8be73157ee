"""Draws a dashboard from its own queries, laid out as Grafana lays it out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from tools.monitoring.units import text_of

COLUMN, ROW, GAP, HEAD = 62, 38, 8, 56  # pixels
COLOURS = (
    "#3274d9", "#e0752d", "#299c46", "#a352cc", "#d44a3a", "#1fa6a6", "#b8860b", "#7f6fdb", "#c2528b", "#6b7785",
    "#5aa9e6", "#8ab82e", "#f2a93b", "#8d5a3b",
)  # fmt: skip
NAMED = {"green": "#299c46", "orange": "#d9822b", "red": "#c4362b", "transparent": "#00000000"}
PAGE, CARD, EDGE, INK, FAINT = "#f3f4f6", "#ffffff", "#d9dce1", "#22252b", "#6e7580"

_TIMED = "timed"

Series = list[tuple[str, np.ndarray, np.ndarray]]
"""Name, times in seconds since the epoch, values."""


@dataclass(frozen=True)
class Source:
    """Where the numbers come from.

    Attributes:
        instant: Gives the answer to a query now.
        ranged: Gives the answer to a query over the shown time.
        start: Of the shown time, in seconds since the epoch.
        end: Of the shown time.
        empty: Says why a panel has no data.
    """

    instant: Callable[[str], list[dict[str, Any]]]
    ranged: Callable[[str], list[dict[str, Any]]]
    start: float
    end: float
    empty: Callable[[str], str]


def draw(board: dict[str, Any], source: Source, path: Path) -> None:
    """Write a picture of ``board`` to ``path``."""
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 8})
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width, height = 24 * COLUMN + 2 * GAP, rows * ROW + HEAD + GAP
    figure = Figure((width / 100, height / 100), dpi=100, facecolor=PAGE)
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, width), ylim=(height, 0))
    page.axis("off")
    page.text(2 * GAP, 26, board["title"], fontsize=15, fontweight="bold", color=INK, va="center")
    shown = f"{_clock(source.start)} to {_clock(source.end)}"
    page.text(width - 2 * GAP, 26, shown, fontsize=9, color=FAINT, va="center", ha="right")
    firing = _firing(board, source)
    if firing:
        names = ", ".join(f"{name.removeprefix('Miclip')} ({_clock(since)})" for name, since in firing)
        page.text(
            width / 2, 26, f"Alerts that fired: {names}", fontsize=9, color=NAMED["red"], va="center", ha="center"
        )
    for panel in board["panels"]:
        _panel(figure, page, panel, source, (width, height))
    for axes in figure.axes[1:]:
        if axes.get_label() == _TIMED:
            for _, since in firing:
                axes.axvline(datetime.fromtimestamp(since), color=NAMED["red"], lw=0.8, ls=":")  # type: ignore[arg-type]
    figure.savefig(path, dpi=100)
    with Image.open(path) as made:
        made.convert("RGB").quantize(256).save(path, optimize=True)


def _firing(board: dict[str, Any], source: Source) -> list[tuple[str, float]]:
    """Alerts that fired in the shown time, with the first moment of each."""
    found = source.ranged(board["annotations"]["list"][0]["expr"])
    return sorted(((one["metric"]["alertname"], float(one["values"][0][0])) for one in found), key=lambda one: one[1])


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S")


def _panel(figure: Figure, page: Axes, panel: dict[str, Any], source: Source, size: tuple[int, int]) -> None:
    at = panel["gridPos"]
    x, y = at["x"] * COLUMN + GAP, at["y"] * ROW + HEAD
    w, h = at["w"] * COLUMN, at["h"] * ROW
    if panel["type"] == "row":
        page.text(x + GAP, y + h / 2 + 4, panel["title"], fontsize=11, fontweight="bold", color=INK, va="center")
        return
    card = FancyBboxPatch(
        (x + 4, y + 4), w - 8, h - 8, boxstyle="round,pad=0,rounding_size=4", fc=CARD, ec=EDGE, lw=0.8
    )
    page.add_patch(card)
    page.text(x + 14, y + 20, panel["title"], fontsize=8.5, fontweight="bold", color=INK, va="center")

    def axes(left: int, top: int, right: int, bottom: int) -> Axes:
        box = (x + left, size[1] - (y + h - bottom), w - left - right, h - top - bottom)
        made = figure.add_axes((box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]))
        made.set_facecolor("none")
        return made

    found = series_of(panel, source)
    if not found:
        page.text(
            x + w / 2, y + h / 2 + 8, source.empty(panel["targets"][0]["expr"]), color=FAINT, ha="center", va="center"
        )
        return
    {"stat": _stat, "timeseries": _lines, "heatmap": _heat}[panel["type"]](panel, found, axes, source)


def series_of(panel: dict[str, Any], source: Source) -> Series:
    """The lines of a panel, as its queries gave them."""
    made: Series = []
    for target in panel["targets"]:
        ask = source.instant if target.get("instant") else source.ranged
        for one in ask(target["expr"]):
            points = np.array(one["values"] if "values" in one else [one["value"]], dtype=float)
            name = _named(target["legendFormat"], one["metric"])
            if np.isfinite(points[:, 1]).any():
                made.append((name, points[:, 0], points[:, 1]))
    return sorted(made, key=lambda one: (_order(one[0]), one[0]))


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def _order(name: str) -> float:
    return float(name.replace("+Inf", "inf")) if re.fullmatch(r"\d+(\.\d+)?|\+Inf", name) else math.inf


def _last(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)][-1])


Axing = Callable[[int, int, int, int], Axes]


def _stat(panel: dict[str, Any], found: Series, axing: Axing, source: Source) -> None:
    axes = axing(10, 30, 10, 10)
    axes.axis("off")
    defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
    named = len(found) > 1 or bool(found[0][0])
    upright = panel["gridPos"]["w"] <= 4 * len(found) and panel["gridPos"]["h"] >= 8
    for place, (name, _, values) in enumerate(found):
        value = _last(values)
        text = name if options["textMode"] == "name" else text_of(value, defaults["unit"], defaults.get("decimals"))
        size = min(24.0, 1.3 * panel["gridPos"]["w"] / (1 if upright else len(found)) * 62 / max(4, len(text)) * 0.62)
        share = (place + 0.5) / len(found)
        colour = _threshold(defaults["thresholds"]["steps"], value)
        at = (0.66, 1 - share) if upright else (share, 0.62 if named and options["textMode"] != "name" else 0.5)
        size = min(size, 18.0) if upright else size
        axes.text(*at, text, fontsize=size, fontweight="bold", color=colour, ha="center", va="center")
        if named and options["textMode"] != "name":
            at = (0.42, 1 - share) if upright else (share, 0.12)
            axes.text(*at, name, fontsize=8.5, color=FAINT, ha="right" if upright else "center", va="center")


def _threshold(steps: Sequence[dict[str, Any]], value: float) -> str:
    passed = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED[passed[-1]]


def _lines(panel: dict[str, Any], found: Series, axing: Axing, source: Source) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    columns = 2 if panel["gridPos"]["w"] < 12 and len(found) <= 8 else 3
    entries = -(-len(found) // columns)
    axes = axing(62, 36, 18, 38 + 15 * min(entries, 5))
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    base: np.ndarray | None = None
    grid = np.unique(np.concatenate([times for _, times, _ in found]))
    for place, (_, times, values) in enumerate(found):
        colour = COLOURS[place % len(COLOURS)]
        full = np.full(len(grid), np.nan)
        full[np.searchsorted(grid, times)] = values
        bottom = np.zeros(len(grid)) if base is None or not stacked else base
        top = bottom + np.nan_to_num(full) if stacked else full
        moments = [datetime.fromtimestamp(at) for at in grid]
        axes.plot(moments, top, color=colour, lw=1.1, solid_capstyle="round")  # type: ignore[arg-type]
        axes.fill_between(moments, bottom, top, color=colour, alpha=0.3 if stacked else 0.06, lw=0)  # type: ignore[arg-type]
        base = top
    _frame(axes, defaults, source)
    _legend(axes, found, defaults, columns)


def _frame(axes: Axes, defaults: dict[str, Any], source: Source) -> None:
    axes.set_label(_TIMED)
    axes.set_xlim(datetime.fromtimestamp(source.start), datetime.fromtimestamp(source.end))  # type: ignore[arg-type]
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=6))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    limits = [step["value"] for step in defaults.get("thresholds", {"steps": []})["steps"] if step["value"] is not None]
    top = max(axes.get_ylim()[1], 1e-9)
    for limit in limits:
        if limit <= 20 * top:  # a limit far away would flatten what there is
            axes.axhline(limit, color=NAMED["red"], lw=0.9, ls=(0, (5, 3)))
            top = max(top, 1.08 * limit)
    axes.set_ylim(0, defaults.get("max", top) * (1.02 if "max" in defaults else 1))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=defaults["unit"] == "none" and top > 3))
    axes.yaxis.set_major_formatter(lambda value, _place: text_of(value, defaults["unit"]))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(True, color="#e7e9ed", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=7.5, colors=FAINT)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(axes: Axes, found: Series, defaults: dict[str, Any], columns: int) -> None:
    box = axes.get_window_extent()
    size = 7.5 if box.width / columns > 180 else 6.0
    ranked = sorted(range(len(found)), key=lambda place: -float(np.nanmax(found[place][2])))
    shown = sorted(ranked[: 5 * columns])
    per_column = -(-len(shown) // columns)
    for number, place in enumerate(shown):
        name, _, values = found[place]
        column, row = divmod(number, per_column)
        x, y = (column * (box.width + 60) / columns - 48) / box.width, -(26 + 15 * row) / box.height
        colour = COLOURS[place % len(COLOURS)]
        axes.plot([x, x + 10 / box.width], [y, y], color=colour, lw=2.2, transform=axes.transAxes, clip_on=False)
        text = f"{name}   {text_of(_last(values), defaults['unit'])}"
        axes.text(x + 15 / box.width, y, text, transform=axes.transAxes, fontsize=size, color=INK, va="center")


def _heat(panel: dict[str, Any], found: Series, axing: Axing, source: Source) -> None:
    axes = axing(62, 36, 18, 34)
    grid = np.unique(np.concatenate([times for _, times, _ in found]))
    buckets = np.zeros((len(found), len(grid)))
    for row, (_, times, values) in enumerate(found):
        buckets[row, np.searchsorted(grid, times)] = np.nan_to_num(values)
    counts = np.maximum(0, np.diff(buckets, axis=0, prepend=0))
    used = np.flatnonzero(counts.any(axis=1))
    low, high = max(0, used[0] - 1), min(len(found), used[-1] + 2)
    moments = [datetime.fromtimestamp(at) for at in grid]
    shade = np.ma.masked_less_equal(counts[low:high], 0)
    axes.pcolormesh(moments, np.arange(low, high) + 0.5, np.sqrt(shade), cmap="Blues", vmin=-0.3, shading="nearest")  # type: ignore[arg-type]
    unit = panel["options"]["yAxis"]["unit"]
    names = ["more" if name == "+Inf" else text_of(float(name), unit) for name, _, _ in found]
    every = max(1, -(-(high - low) // 9))
    axes.set_yticks(np.arange(low, high, every) + 1, [names[at] for at in range(low, high, every)])
    axes.set_xlim(moments[0], moments[-1])  # type: ignore[arg-type]
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=6))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    _plain(axes)
