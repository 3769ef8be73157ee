"""The README's Python examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from miclip.settings import settings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_there_is_an_example_of_the_library_and_one_of_the_client() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("example", EXAMPLES, ids=["library", "client"])
def test_an_example_runs_and_prints(
    example: str, server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)
    settings.cache_clear()
    try:
        exec(compile(example, "README.md", "exec"), {})
    finally:
        settings.cache_clear()
    assert "layer4" in capsys.readouterr().out


def test_the_library_example_fits_on_the_fingers() -> None:
    statements = [line for line in EXAMPLES[0].splitlines() if line and not line.startswith(("from ", "import ", " "))]
    assert len(statements) <= 10
