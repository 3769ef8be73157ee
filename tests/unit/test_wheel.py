"""What `pip install` brings: the packages, the bundled world, and the APIs for clients in other languages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=240)
    (made,) = folder.glob("miclip-*.whl")
    return made


def required(wheel: Path, extra: str) -> set[str]:
    """Distributions that an installation with an extra brings, not counting what those bring."""
    (metadata,) = (name for name in ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    lines = ZipFile(wheel).read(metadata).decode().splitlines()
    requirements = [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]
    return {found.name for found in requirements if not found.marker or found.marker.evaluate({"extra": extra})}


def test_the_client_needs_neither_the_library_nor_the_server(wheel: Path) -> None:
    client, local, serve = required(wheel, ""), required(wheel, "local"), required(wheel, "serve")
    assert {"grpcio", "numpy", "protobuf", "pydantic"} < client
    assert client & {"torch", "faiss-cpu", "ray", "redis", "scipy", "pillow"} == set()
    assert {"torch", "faiss-cpu"} <= local and "ray" not in local
    assert {"ray", "redis"} <= serve and local < serve


def test_the_wheel_has_all_that_runs_and_nothing_else(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "miclip", "services"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert set(tracked.stdout.splitlines()) <= held
    assert {f"miclip/v1/{path.name}" for path in ROOT.glob("protos/miclip/v1/*.proto")} <= held
    assert {name.partition("/")[0] for name in held} == {"miclip", "services"}
