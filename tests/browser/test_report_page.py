"""The report in a real browser that has no network: everything is there, and nothing is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

IMAGES = "[...document.images].map(image => [image.complete, image.naturalWidth, image.clientWidth, image.alt])"


@pytest.fixture(params=[False, True], ids=["scripts", "no scripts"])
def page(chromium: Any, report: Path, request: pytest.FixtureRequest) -> Any:
    chromium.call("Emulation.setScriptExecutionDisabled", value=request.param)
    chromium.open(report)
    yield chromium
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def test_every_picture_is_drawn(page: Any) -> None:
    images = page.value(IMAGES)
    assert len(images) > 700
    assert all(complete and natural >= 48 and shown >= 24 and alt for complete, natural, shown, alt in images)
    boxes = page.value("[...document.querySelectorAll('svg .bar')].map(bar => bar.getBBox().width)")
    assert len(boxes) == 2 * 2 * 2 * 2 * 4 and min(boxes) > 0
    assert page.value("document.querySelectorAll('.scatter .mark').length") > 100


def test_no_request_leaves_the_file_and_nothing_is_refused(page: Any, report: Path) -> None:
    requested = page.requested()
    assert [url for url in requested if not url.startswith("data:image/webp;base64,")] == [report.as_uri()]
    assert page.complaints() == []
    assert page.value("performance.getEntriesByType('resource').every(entry => entry.name.startsWith('data:'))")


def test_a_page_that_asks_for_more_would_be_caught(chromium: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://pictures.test/x.png" alt="x"><img src="data:image/webp;base64,AAAA" alt="y">')
    chromium.open(bad)
    assert "http://pictures.test/x.png" in chromium.requested()
    assert [natural for _, natural, _, _ in chromium.value(IMAGES)] == [0, 0]
    assert chromium.complaints()


@pytest.mark.parametrize("width", [1400, 1024, 390])
def test_the_page_fits_the_window(page: Any, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    try:
        assert page.value("document.documentElement.scrollWidth") <= width
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_text_stands_out_in_light_and_dark(page: Any) -> None:
    found = {}
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        style = "getComputedStyle(document.body)"
        ink, paper = (page.value(f"{style}.{name}.match(/\\d+/g).map(Number)") for name in ("color", "backgroundColor"))
        found[scheme] = (sum(ink[:3]) / 3, sum(paper[:3]) / 3)
    page.call("Emulation.setEmulatedMedia", features=[])
    assert found["light"][1] - found["light"][0] > 150
    assert found["dark"][0] - found["dark"][1] > 150


def test_what_is_folded_away_opens(page: Any) -> None:
    visible = "document.querySelector('details table').checkVisibility()"
    assert page.value(visible) is False
    page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.value(visible) is True
