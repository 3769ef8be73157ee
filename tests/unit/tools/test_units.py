"""Numbers of the dashboards' pictures read as Grafana writes them."""

from __future__ import annotations

import pytest

from tools.monitoring.units import text_of

pytestmark = pytest.mark.metrics


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0124, "s", "12.4 ms"), (90, "s", "1.5 min"), (0, "s", "0"), (3e-7, "s", "0.3 µs"), (2 * 86400, "s", "2 d"),
        (3 * 2**30, "bytes", "3 GiB"), (0.9312, "percentunit", "93.1 %"), (4.2, "reqps", "4.2 req/s"),
        (12345, "none", "12345"), (2_500_000, "short", "2.5 M"), (14.4, "suffix:×", "14.4×"),
        (-0.5, "percentunit", "-50 %"),
    ],
)  # fmt: skip
def test_a_value_has_its_unit(value: float, unit: str, text: str) -> None:
    assert text_of(value, unit) == text


def test_digits_can_be_fixed() -> None:
    assert text_of(0.12345, "percentunit", 2) == "12.35 %"
    assert text_of(3, "none", 1) == "3.0"
