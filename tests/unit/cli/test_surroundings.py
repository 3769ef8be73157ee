"""The command line where things are not as they should be: pipes, disks, terminals, variables, folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from miclip.atlas import activate_atlas
from miclip.cli.app import app
from miclip.settings import settings

LOCALIZE = ("describe", "toy/mid/1", "toy/mid/2", "--local")


@pytest.fixture(autouse=True)
def elsewhere(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Private folders, with an aligned model "toy"."""
    monkeypatch.setenv("MICLIP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MICLIP_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    activate_atlas(recipe().write(tmp_path / "data" / "atlases"))
    yield
    settings.cache_clear()


def run(*arguments: str, stdout: Any = subprocess.PIPE, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "miclip.cli.app", *arguments], env={**os.environ, **variables}, stdout=stdout,
        stderr=subprocess.PIPE, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["table", "json"])
def test_a_reader_that_goes_away_is_no_failure(more: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as closed:
        result = run(*LOCALIZE, *more, stdout=closed)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", [("evaluate",), ("sae", "train"), ("align",)])
def test_the_help_fills_the_terminal_whatever_its_width(command: tuple[str, ...]) -> None:
    said, _, _ = run(*command, "--help", COLUMNS="80").stdout.partition("Options")
    prose = [line.strip() for line in said.partition("Examples:")[0].splitlines()[2:]]
    ends = [line for line, then in pairwise(prose) if line and then and len(f"{line} {then.split()[0]}") <= 76]
    assert ends == [], "a line ends before the terminal does"


def test_a_full_disk_is_said_in_a_line() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = run(*LOCALIZE, stdout=full)
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device.\n")


def test_a_terminal_without_unicode_gets_an_answer_all_the_same() -> None:
    result = run(*LOCALIZE, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert "What units of toy mean" in result.stdout


@pytest.mark.parametrize("columns", [60, 100])
def test_every_label_stands_on_few_lines_however_narrow_the_terminal(columns: int) -> None:
    lines = run(*LOCALIZE, COLUMNS=str(columns)).stdout.splitlines()
    assert max(len(line) for line in lines[:4]) <= columns
    assert [line.split()[0] for line in lines[2:4]] == ["mid/1", "mid/2"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MICLIP_GRPC_PORT", "abc", "MICLIP_GRPC_PORT is 'abc'"),
        ("MICLIP_GRPC_PORT", "70000", "less than or equal to 65535"),
        ("MICLIP_INGRESS", "nginx", "MICLIP_INGRESS is 'nginx'"),
        ("MICLIP_PROBE_SETS", "photos", "MICLIP_PROBE_SETS is not JSON"),
        ("MICLIP_PROBE_SETS", "[1]", "MICLIP_PROBE_SETS"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    settings.cache_clear()
    result = CliRunner().invoke(app, ["describe", "toy/mid/1"])
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("serve", "--detach", MICLIP_STATE_DIR=str(tmp_path / "file"))
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: {tmp_path / 'file'}/")
    assert result.stderr.endswith(": Not a directory.\n")


def test_a_mistyped_model_is_not_offered_to_be_aligned() -> None:
    result = CliRunner().invoke(app, ["describe", "--model", "emoji-resnett", "--local"])
    assert result.exit_code == 1
    assert "the models are emoji-resnet, emoji-vit" in result.stderr


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 200])
def test_a_key_needs_the_name_of_who_holds_it(name: str) -> None:
    result = CliRunner().invoke(app, ["key", "create", name])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: NAME")


def test_texts_of_another_clip_model_are_not_compared_with_an_atlas() -> None:
    result = CliRunner().invoke(app, ["describe", "toy/mid/1", "-c", "dog", "--local"])  # the toy's CLIP is made up
    assert result.exit_code == 1
    assert "CLIP toy-clip that the atlas was made with is not known here" in result.stderr


def test_a_concept_may_be_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MICLIP_DATA_DIR")
    settings.cache_clear()
    result = CliRunner().invoke(app, ["localize", "dog", "dog", "--local", "--json"])
    assert result.exit_code == 0, result.stderr
    first, second = json.loads(result.stdout)
    assert [one["name"] for one in first["units"]] == [one["name"] for one in second["units"]]
    scores = [[one["score"] for one in answer["units"]] for answer in (first, second)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)  # a text's embedding depends on its batch in the last bits
