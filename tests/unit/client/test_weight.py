"""What a program that only asks a server has to load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "faiss", "scipy", "sklearn", "ray", "timm", "open_clip", "typer", "rich", "PIL")


@pytest.mark.parametrize("module", ["miclip.client", "miclip.retrieval.results", "miclip.wire.retrieval"])
def test_a_client_loads_neither_the_library_nor_the_command_line(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
