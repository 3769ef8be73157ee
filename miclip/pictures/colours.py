"""Colours of maps and groups, told apart by people who do not see red or green too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEAT = ("#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4")
"""Cold to hot, of even steps in lightness: the map "inferno" (van der Walt & Smith, CC0) at ten points."""
GROUPS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a5c00", "#5e3c99", "#666666", "#b2182b")
"""One colour a group, after Okabe & Ito."""


def colourise(values: NDArray[np.floating], colours: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the colours ``[..., 3]``, 0 to 255, of values 0 to 1."""
    stops = np.array([rgb(colour) for colour in colours], float)
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(values, at, stops[:, channel]) for channel in range(3)], axis=-1)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue of ``#rrggbb``."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def group_colour(place: int) -> str:
    """Return the colour of the ``place``-th group; beyond ten they repeat."""
    return GROUPS[place % len(GROUPS)]
