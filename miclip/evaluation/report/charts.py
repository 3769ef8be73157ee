"""Where the parts of a chart lie; ``templates/charts.html.jinja`` draws them, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
        beside: A second value, a hollow point.
        role: CSS class of the bar.
    """

    name: str
    value: float
    low: float
    high: float
    beside: float
    role: str


@dataclass(frozen=True)
class DrawnBar:
    """A bar with its place: the middle of its row, its left end and width, its whisker, and the hollow point."""

    bar: Bar
    middle: float
    left: float
    width: float
    whisker: str
    beside: float


@dataclass(frozen=True)
class BarChart:
    """Horizontal bars: size, right end of the names, ticks as (value, x), and the rows."""

    width: int
    height: int
    names: int
    top: int
    foot: int
    ticks: Sequence[tuple[float, float]]
    rows: Sequence[DrawnBar]


def bar_chart(bars: Sequence[Bar], bounds: tuple[float, float]) -> BarChart:
    """Lay out bars with intervals; ``bounds`` are the least and the greatest value that fit."""
    low, high = bounds

    def x(value: float) -> float:
        return _NAMES + (min(max(value, low), high) - low) / (high - low) * (_WIDTH - _NAMES - _VALUES)

    height = _TOP + _ROW * len(bars) + _FOOT
    return BarChart(
        width=_WIDTH,
        height=height,
        names=_NAMES - 8,
        top=_TOP,
        foot=height - _FOOT + 4,
        ticks=[(tick, x(tick)) for tick in ticks(low, high)],
        rows=[_row(bar, _TOP + _ROW * place + _ROW / 2, x) for place, bar in enumerate(bars)],
    )


def _row(bar: Bar, middle: float, x: Callable[[float], float]) -> DrawnBar:
    zero, end, left, right = x(0), x(bar.value), x(bar.low), x(bar.high)
    ends = "".join(f"M{at:.1f} {middle - 3:.1f}v6" for at in (left, right))
    whisker = f"M{left:.1f} {middle:.1f}H{right:.1f}{ends}"
    return DrawnBar(bar, middle, min(zero, end), max(abs(end - zero), 0.5), whisker, x(bar.beside))


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


@dataclass(frozen=True)
class Mark:
    """A drawn point: its place, its colour and its corners; without corners it is a disc, without colour a dot."""

    x: float
    y: float
    title: str
    label: str
    colour: str
    corners: str


@dataclass(frozen=True)
class Scatter:
    """A scatter plot: its size and its marks, those that lie below first."""

    width: int
    height: int
    marks: Sequence[Mark]


def scatter(points: Sequence[Point], colours: Sequence[str], size: tuple[int, int] = (920, 560)) -> Scatter:
    """Lay out points in the colour and shape of their group."""
    width, height = size
    xs, ys = [point.x for point in points], [point.y for point in points]

    def fit(value: float, values: Sequence[float], length: int) -> float:
        return 24 + (value - min(values)) / ((max(values) - min(values)) or 1) * (length - 48)

    def mark(point: Point) -> Mark:
        x, y = fit(point.x, xs, width - 60), height - fit(point.y, ys, height)
        if point.group is None:
            return Mark(x, y, point.title, point.label, "", "")
        return Mark(x, y, point.title, point.label, colours[point.group], corners(point.group, x, y))

    below_first = sorted(points, key=lambda point: point.group is not None)
    return Scatter(width, height, [mark(point) for point in below_first])


def corners(group: int, x: float, y: float, radius: float = 6) -> str:
    """Return the corners of a group's mark: square, diamond, triangle up or down; none for a disc."""
    shape = {
        1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        2: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        3: ((0, -1.2), (1.2, 1), (-1.2, 1)),
        4: ((0, 1.2), (1.2, -1), (-1.2, -1)),
    }.get(group % 5, ())
    scale = 0.88 * radius
    return " ".join(f"{x + scale * dx:.1f},{y + scale * dy:.1f}" for dx, dy in shape)
