"""A program in another language, made from the .proto files alone, gets the answers that the Python client gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from miclip.client import MiclipClient

HERE = Path(__file__).parent
UNITS = ("models/emoji-resnet/layers/layer4/units/7", "models/emoji-resnet/layers/logits/units/0")

pytestmark = pytest.mark.slow


def tool(name: str) -> str:
    path = shutil.which(name)
    assert path, f"{name} is missing: this test needs Node.js 18 or newer with npm."
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node.js program with exactly the packages of its lock file, each checked against its hash."""
    folder = tmp_path_factory.mktemp("node") / "program"
    shutil.copytree(HERE / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = [tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "labels.js"


def labels(program: Path, endpoint: str, key: str, *units: str) -> tuple[int, Any]:
    protos = HERE.parents[1] / "protos"
    found = {"MICLIP_ENDPOINT": endpoint, "MICLIP_API_KEY": key, "MICLIP_PROTOS": str(protos)}
    command = [tool("node"), str(program), *units]
    done = subprocess.run(command, env=os.environ | found, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_node_gets_the_labels_that_python_gets(program: Path, server: Any) -> None:
    status, answer = labels(program, server.grpc_endpoint, server.api_key, *UNITS)
    assert status == 0, answer
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.api_key) as client:
        expected = client.describe(UNITS, top_k=3)
    assert answer["provenance"]["atlas"] == expected.provenance.atlas != ""
    assert [one["unit"] for one in answer["descriptions"]] == list(UNITS)
    for got, wanted in zip(answer["descriptions"], expected.descriptions, strict=True):
        assert len(wanted.concepts) == 3
        concepts = [(one["concept"], one["index"], pytest.approx(one["score"], abs=1e-6)) for one in got["concepts"]]
        assert [(one.concept, one.index, one.score) for one in wanted.concepts] == concepts
        assert wanted.margin == pytest.approx(got["margin"], abs=1e-6)
        assert wanted.null_percentile == pytest.approx(got["null_percentile"], abs=1e-4)
        assert wanted.abstained == got["abstained"]
        assert got["embedding"] == f"UNIT_EMBEDDING_{wanted.embedding.upper()}"


def test_node_without_a_valid_key_is_refused(program: Path, server: Any) -> None:
    status, answer = labels(program, server.grpc_endpoint, "wrong", UNITS[0])
    assert (status, answer["code"]) == (1, 16)
    assert "wrong" not in answer["details"]
