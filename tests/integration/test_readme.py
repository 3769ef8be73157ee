"""The documents' Python examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from miclip.settings import settings

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = ("README.md", "docs/features.md")
EXAMPLES = [
    example
    for name in DOCUMENTS
    for example in re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
]


def test_there_are_examples_of_the_library_of_the_client_and_of_features() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES, ids=["library", "client", "features"])
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


@pytest.mark.parametrize("example", EXAMPLES[::2], ids=["library", "features"])
def test_an_example_of_the_library_fits_on_the_fingers(example: str) -> None:
    statements = [line for line in example.splitlines() if line and not line.startswith(("from ", "import ", " "))]
    assert len(statements) <= 10
