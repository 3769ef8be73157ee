"""What `pip install` brings: the packages, the bundled world, and the APIs for clients in other languages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_has_all_that_runs_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=240)
    (wheel,) = tmp_path.glob("miclip-*.whl")
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "miclip", "services"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert set(tracked.stdout.splitlines()) <= held
    assert {f"miclip/v1/{path.name}" for path in ROOT.glob("protos/miclip/v1/*.proto")} <= held
    assert {name.partition("/")[0] for name in held} == {"miclip", "services"}
