"""How the tables of ``miclip evaluate`` write names and figures."""

from __future__ import annotations

from miclip.evaluation.figures import Figure

SCALES = {"scale_2": "×2", "scale_0": "×0"}


def words(method: str) -> str:
    """Return what tables call a method."""
    return method.replace("_x_", " × ").replace("_", " ")


def within(figure: Figure, digits: int = 1) -> str:
    """Format a change with half the width of its interval."""
    return f"{figure.value:+.{digits}f} ±{half(figure):.{digits}f}"


def within_share(figure: Figure) -> str:
    """Format a share with half the width of its interval."""
    return f"{figure.value:.1f} ±{half(figure):.1f}"


def half(figure: Figure) -> float:
    """Return half the width of a figure's interval."""
    return (figure.high - figure.low) / 2
