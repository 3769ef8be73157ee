"""Numbers as people read them, by Grafana's ids of units."""

from __future__ import annotations

_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def text_of(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit.

    Args:
        value: The value.
        unit: ``s``, ``bytes``, ``percentunit``, ``reqps``, ``ops``, ``none``, ``short`` or ``suffix:…``.
        decimals: Digits after the point; default three significant ones.
    """
    if unit in ("s", "bytes"):
        return _scaled(value, _SPANS if unit == "s" else _BYTES, decimals)
    if unit == "percentunit":
        return f"{_number(100 * value, decimals)} %"
    ending = {"reqps": " req/s", "ops": " /s"}.get(unit, unit.removeprefix("suffix:") if ":" in unit else "")
    return _number(value, decimals) + ending


def _scaled(value: float, steps: tuple[tuple[float, str], ...], decimals: int | None) -> str:
    if value == 0:
        return "0"
    size, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{_number(value / size, decimals)} {name}"


def _number(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
