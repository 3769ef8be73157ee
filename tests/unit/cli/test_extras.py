"""A library that is not installed is named with the extra that brings it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from miclip.cli.extras import EXTRAS, advice

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {
    "faiss": "faiss-cpu",
    "open_clip": "open-clip-torch",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Distributions that are not called as what they install."""


@pytest.mark.parametrize("extra", ["local", "serve", "data"])
def test_every_library_of_an_extra_is_told_to_come_from_it(extra: str) -> None:
    required = {canonicalize_name(Requirement(text).name) for text in PROJECT["optional-dependencies"][extra]}
    known = {canonicalize_name(DISTRIBUTIONS.get(package, package)) for package in EXTRAS[extra]}
    assert known == required - {"miclip"}


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        (("localize", "dog", "--local"), "torch", "local"),
        (("serve",), "psutil", "serve"),
        (("key", "list"), "redis", "serve"),
    ],
)
def test_a_command_without_its_library_ends_with_one_sentence(
    command: tuple[str, ...], missing: str, extra: str, tmp_path: Path
) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from miclip.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env={**os.environ, "MICLIP_STATE_DIR": str(tmp_path), "MICLIP_REDIS_URL": "redis://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"Error: This command needs {missing}, which is not installed: pip install 'miclip[{extra}]'\n"
    )


def test_another_module_that_is_missing_is_a_bug() -> None:
    assert advice(ModuleNotFoundError("No module named 'nonsense'", name="nonsense")) is None
    assert advice(ModuleNotFoundError("no name")) is None
