"""Figures of units: contact sheet, spatial map, projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from miclip.pictures.canvas import Figure, plain
from miclip.pictures.colours import HEAT, group_colour
from miclip.pictures.projection import Projection, sureness
from miclip.pictures.spatial import Float32, UnitMap, grey, heat_range, upsample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_COLUMNS = 8
_NAMED = 30  # units of a projection that bear their label
_MARKERS = "os^Dv"


def sheet_figure(title: str, images: Sequence[Tensor | None], captions: Sequence[str]) -> Figure:
    """Draw images in rows of eight, first to last, each with its caption; images are uint8 ``[3, H, W]``.

    The place of an image that is missing (None) says so.
    """
    rows = -(-len(images) // _COLUMNS)
    columns = min(len(images), _COLUMNS)
    figure = Figure(figsize=(1.3 * max(columns, 5), 0.6 + 1.6 * rows), layout="constrained")
    figure.suptitle(plain(title), fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, caption in zip(grid, images, captions, strict=False):
        if image is None:
            axes.text(0.5, 0.5, "no thumbnail", ha="center", va="center", fontsize=7, transform=axes.transAxes)
        else:
            axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="bilinear")
        axes.set_title(plain(caption), fontsize=7)
    return figure


def map_figure(title: str, found: UnitMap) -> Figure:
    """Draw the image, the unit's activation over it, and its attribution over it, each with its colour bar."""
    from matplotlib.colors import LinearSegmentedColormap

    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    figure.suptitle(plain(title), fontsize=11, x=0.01, ha="left")
    seen, active, attributed = figure.subplots(1, 3)
    seen.imshow(found.image)
    seen.set_title(plain(f"what the model sees, and calls {found.predicted}"), fontsize=9)
    heat = LinearSegmentedColormap.from_list("heat", HEAT)
    _over(active, found, found.activation, heat, heat_range(found.activation))
    active.set_title("activation", fontsize=9)
    most = float(np.abs(found.attribution).max()) or 1.0
    _over(attributed, found, found.attribution, "RdBu_r", (-most, most))
    attributed.set_title("activation × gradient, in logits", fontsize=9)
    for axes in (seen, active, attributed):
        axes.set(xticks=[], yticks=[])
    return figure


def units_figure(title: str, projection: Projection) -> Figure:
    """Draw the units of a layer as points in the colour and shape of their group; the surest bear their label."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(projection.names):
        mine = projection.points[[group == name for group in projection.groups]]
        axes.scatter(mine[:, 0], mine[:, 1], s=42, color=group_colour(place), marker=_MARKERS[place % len(_MARKERS)],
                     edgecolors="white", linewidths=0.6, label=plain(f"{name} ({len(mine)})"))  # fmt: skip
    silent = projection.points[[not group for group in projection.groups]]
    if len(silent):
        axes.scatter(silent[:, 0], silent[:, 1], s=14, color="0.75", label=f"abstains ({len(silent)})", zorder=0)
    sure = [place for place, group in enumerate(projection.groups) if group]
    for place in sorted(sure, key=lambda place: -sureness(projection.descriptions[place]))[:_NAMED]:
        best = projection.descriptions[place].concepts[0].concept
        axes.annotate(plain(best), projection.points[place], xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(title=plain(title), xticks=[], yticks=[])
    axes.set_xlabel("t-SNE of unit embeddings: near is alike; far says little", fontsize=8)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    return figure


def _over(axes: Axes, found: UnitMap, values: Float32, colours: str | Colormap, bounds: tuple[float, float]) -> None:
    """Lay a map over the grey image; the weaker a position, the more of the image shows."""
    low, high = bounds
    axes.imshow(grey(found.image), cmap="gray", vmin=0, vmax=255)
    grown = upsample(values, len(found.image))
    strength = np.abs(grown) / (max(abs(low), abs(high)) or 1.0)
    high = high if high > low else low + 1
    drawn = axes.imshow(grown, cmap=colours, vmin=low, vmax=high, alpha=0.1 + 0.8 * np.clip(strength, 0, 1))
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.85)
    if bar.solids is not None:
        bar.solids.set_alpha(1)  # else the bar is as transparent as the map
    bar.ax.tick_params(labelsize=7)
