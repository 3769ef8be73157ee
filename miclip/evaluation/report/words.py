"""What the report calls units, queries and scales, and how it writes numbers."""

from __future__ import annotations

from miclip.evaluation.findings import KINDS
from miclip.evaluation.result import UNSEEN

GOAL = 90.0
"""Share of the white-box oracle, in percent, that the default is meant to reach."""
SCALES = {"scale_2": "×2, doubled", "scale_0": "×0, removed"}


def kind_words(name: str) -> str:
    """Return what readers call a kind of query."""
    return {**KINDS, UNSEEN: "names of unseen classes"}.get(name, name.replace("_", " "))


def signed(value: float, digits: int = 1) -> str:
    """Format a change with its sign and a true minus; zero has none."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


def plain_number(value: float, digits: int = 2) -> str:
    """Format a number with a true minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def fitting_number(value: float) -> str:
    """Format a number with as many digits as its size asks for."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.1g}".replace("-", "−")
    return plain_number(value, 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 3)


def count(value: int) -> str:
    """Format a whole number in groups of three digits."""
    return f"{value:,}".replace(",", "\u202f")


def percent(value: float | None) -> str:
    """Format a share in percent; a dash where there is none."""
    return "–" if value is None else f"{round(value)} %".replace("-", "−")


def few(names: list[str]) -> str:
    """List the first four of some names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def drawn(value: float) -> str:
    """Format a coordinate, shortened to two digits behind the point."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
