"""`pip install miclip` in an empty environment: the client alone, which calls a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "ray", "faiss", "scipy", "sklearn", "transformers", "redis", "PIL")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a virtual environment that holds the built wheel without extras."""
    folder = tmp_path_factory.mktemp("client")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    run(sys.executable, "-m", "venv", str(folder / "venv"), cwd=folder)
    (wheel,) = folder.glob("miclip-*.whl")
    programs = folder / "venv" / "bin"
    run(str(programs / "pip"), "install", "--constraint", str(ROOT / "constraints.txt"), str(wheel), cwd=folder)
    return programs


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done


@pytest.mark.timeout(600)
def test_the_client_alone_calls_a_server(installed: Path, server: Any, tmp_path: Path) -> None:
    code = """
import importlib.util, json, sys
from miclip.client import MiclipClient
with MiclipClient() as client:
    (answer,) = client.localize("dog", model="emoji-resnet").localizations
    health = client.health()
heavy = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
print(json.dumps({"units": len(answer.units), "health": health, "heavy": heavy}))
"""
    known = {"MICLIP_ENDPOINT": server.grpc_endpoint, "MICLIP_API_KEY": server.api_key}
    found = json.loads(run(str(installed / "python"), "-c", code, *HEAVY, cwd=tmp_path, **known).stdout)
    assert found["heavy"] == []
    assert set(found["health"].values()) == {"SERVING"}
    assert found["units"] == 5


def test_its_command_line_answers_from_a_server_and_says_what_else_needs(
    installed: Path, server: Any, dog: bytes, tmp_path: Path
) -> None:
    image = tmp_path / "dog.png"
    image.write_bytes(dog)
    known = {"MICLIP_ENDPOINT": server.grpc_endpoint, "MICLIP_API_KEY": server.api_key}
    for command in (
        ["localize", "dog"],
        ["describe", "layer4/7"],
        ["predict", str(image)],
        ["status"],
        ["steer", "list"],
    ):
        done = run(str(installed / "miclip"), *command, "--json", cwd=tmp_path, **known)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) is not None
    for command, extra in ((["localize", "dog", "--local"], "local"), (["serve"], "serve")):
        done = run(str(installed / "miclip"), *command, cwd=tmp_path, MICLIP_STATE_DIR=str(tmp_path))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(f"pip install 'miclip[{extra}]'\n") and done.stderr.count("\n") == 1
