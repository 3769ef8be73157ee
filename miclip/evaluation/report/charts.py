"""Charts as inline SVG; their colours are those of the page, in light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from miclip.evaluation.report.markup import Html, el
from miclip.evaluation.report.words import signed

_ROW, _TOP, _FOOT = 22, 8, 26
_WIDTH, _NAMES, _VALUES = 460, 150, 66


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart.

    Attributes:
        name: Shown at its left.
        value: Its length.
        low: Lower end of the interval.
        high: Upper end of the interval.
        beside: A second value, a hollow point; None: none.
        family: CSS class of the bar.
    """

    name: str
    value: float
    low: float
    high: float
    beside: float | None
    family: str


def bar_chart(title: str, bars: Sequence[Bar], bounds: tuple[float, float]) -> Html:
    """Draw horizontal bars with intervals; ``bounds`` are the least and the greatest value that fit."""
    low, high = bounds

    def x(value: float) -> float:
        return _NAMES + (min(max(value, low), high) - low) / (high - low) * (_WIDTH - _NAMES - _VALUES)

    height = _TOP + _ROW * len(bars) + _FOOT
    foot = height - _FOOT + 4
    grid = [
        el("g", el("line", x1=x(tick), x2=x(tick), y1=_TOP, y2=foot, class_="zero" if tick == 0 else "grid"),
           el("text", signed(tick, 0) if tick else "0", x=x(tick), y=foot + 14, class_="tick"))
        for tick in ticks(low, high)
    ]  # fmt: skip
    rows = [_row(bar, _TOP + _ROW * place, x) for place, bar in enumerate(bars)]
    return el("svg", el("title", title), grid, rows, viewBox=f"0 0 {_WIDTH} {height}", class_="bars", role="img",
              aria_label=title)  # fmt: skip


def _row(bar: Bar, top: float, x: Callable[[float], float]) -> Html:
    middle, zero, end = top + _ROW / 2, x(0), x(bar.value)
    point = None
    if bar.beside is not None:
        point = el("circle", cx=x(bar.beside), cy=middle, r=3.2, class_="beside")
    return el(
        "g",
        el("title", f"{bar.name}: {signed(bar.value)} ({signed(bar.low)} to {signed(bar.high)})"),
        el("text", bar.name, x=_NAMES - 8, y=middle + 4, class_=f"name {bar.family}"),
        el("rect", x=min(zero, end), y=middle - 6.5, width=max(abs(end - zero), 0.5), height=13, rx=2,
           class_=f"bar {bar.family}"),
        el("path", d=_whisker(x(bar.low), x(bar.high), middle), class_="whisker"),
        point,
        el("text", signed(bar.value), x=_WIDTH - 2, y=middle + 4, class_=f"value {bar.family}"),
    )  # fmt: skip


def _whisker(left: float, right: float, y: float) -> str:
    return f"M{left:.1f} {y:.1f}H{right:.1f}M{left:.1f} {y - 3:.1f}v6M{right:.1f} {y - 3:.1f}v6"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values from ``low`` to ``high``, 0 among them if it lies between: steps of 1, 2 or 5 × 10^n."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(index * step, 10) + 0.0 for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot: its place, its colour and shape (a group's number; None: none), what it is."""

    x: float
    y: float
    group: int | None
    title: str
    label: str = ""


def scatter(title: str, points: Sequence[Point], colours: Sequence[str], size: tuple[int, int] = (920, 560)) -> Html:
    """Draw points in the colour and shape of their group; each tells what it is when pointed at."""
    width, height = size
    xs, ys = [point.x for point in points], [point.y for point in points]

    def fit(value: float, values: Sequence[float], length: int) -> float:
        return 24 + (value - min(values)) / ((max(values) - min(values)) or 1) * (length - 48)

    placed = [(point, fit(point.x, xs, width - 60), height - fit(point.y, ys, height)) for point in points]
    placed.sort(key=lambda one: one[0].group is not None)  # the silent ones lie below
    marks = [_mark(point, x, y, colours) for point, x, y in placed]
    labels = [el("text", point.label, x=x + 8, y=y + 4, class_="label") for point, x, y in placed if point.label]
    return el("svg", el("title", title), marks, labels, viewBox=f"0 0 {width} {height}", class_="scatter", role="img",
              aria_label=title)  # fmt: skip


def _mark(point: Point, x: float, y: float, colours: Sequence[str]) -> Html:
    if point.group is None:
        return el("g", el("title", point.title), el("circle", cx=x, cy=y, r=2.5, class_="silent"))
    return el("g", el("title", point.title), shape(point.group, x, y, colours[point.group]))


def shape(group: int, x: float, y: float, colour: str, r: float = 6) -> Html:
    """Return the mark of a group: a disc, square, diamond, triangle up or down."""
    corners = {
        1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        2: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        3: ((0, -1.2), (1.2, 1), (-1.2, 1)),
        4: ((0, 1.2), (1.2, -1), (-1.2, -1)),
    }.get(group % 5)
    if corners is None:
        return el("circle", cx=x, cy=y, r=r, fill=colour, class_="mark")
    scale = 0.88 * r
    drawn = " ".join(f"{x + scale * dx:.1f},{y + scale * dy:.1f}" for dx, dy in corners)
    return el("polygon", points=drawn, fill=colour, class_="mark")
