"""What the processes of a server inherit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from miclip.settings import Settings
from services.node.environment import absolute_paths, python_environment

ROOT = Path(__file__).resolve().parents[4]


def test_settings_that_name_files_are_absolute_and_the_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Settings(
        state_dir=Path("state"), data_dir=tmp_path / "data", clip_weights="clip.safetensors", grpc_port=1,
        probe_sets={"photos": Path("photos")},
    )  # fmt: skip
    assert absolute_paths(config) == {
        "MICLIP_STATE_DIR": str(tmp_path / "state"),
        "MICLIP_CLIP_WEIGHTS": str(tmp_path / "clip.safetensors"),
        "MICLIP_PROBE_SETS": json.dumps({"photos": str(tmp_path / "photos")}, separators=(",", ":")),
    }
    assert absolute_paths(Settings(clip_weights="hub:openai")) == {}


def test_the_variables_are_read_back_as_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in absolute_paths(Settings(data_dir=Path("d"), probe_sets={"p": Path("a b")})).items():
        monkeypatch.setenv(name, value)
    assert Settings().data_dir == tmp_path / "d"
    assert Settings().probe_sets == {"p": tmp_path / "a b"}


@pytest.mark.parametrize("python_path", ["", ":", os.pathsep.join(["", "lib"])])
def test_python_never_looks_into_the_working_directory(python_path: str, tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise ImportError")
    (tmp_path / "lib").mkdir()
    environment = {**os.environ, **python_environment({"PYTHONPATH": python_path})}
    code = "import services, sys; print(services.__path__[0], '' in sys.path)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert found.split() == [str(ROOT / "services"), "False"]


def test_folders_of_the_python_path_stay_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = python_environment({"PYTHONPATH": f"lib{os.pathsep}/opt/lib"})["PYTHONPATH"]
    assert value.split(os.pathsep) == [str(ROOT), str(tmp_path / "lib"), "/opt/lib"]
