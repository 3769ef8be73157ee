"""The examples in the help are commands and options that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from miclip.cli.app import Program, app
from miclip.cli.lazy import load


def documented(command: Any, path: str) -> Iterator[tuple[str, str]]:
    """The examples of a command and those below it, with the command whose help has them."""
    for line in (command.help or "").splitlines():
        if found := re.fullmatch(r"\s*miclip (.*)", line):
            yield path, re.split(r" [|>] ", found[1])[0]
    for name, below in getattr(command, "commands", {}).items():
        yield from documented(below, f"{path} {name}")


EXAMPLES = [each for entry in Program.entries for each in documented(load(entry), entry.name)]


def test_the_commands_of_the_readmes_table_have_examples() -> None:
    assert {"describe", "localize", "predict", "trace", "steer create", "steer update", "vocabularies create"} <= {
        path for path, _ in EXAMPLES
    }


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_of_the_help_is_understood(path: str, example: str) -> None:
    words = shlex.split(example.replace("\\[", "["))
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(
            command.make_context("miclip", ["x"], resilient_parsing=True), words
        )
    assert command.make_context(name, words).info_name == name  # raises UsageError for what there is not


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [([], "voc", "vocabularies"), (["steer"], "up", "update"), (["predict"], "--cs", "--csv"),
     (["vocabularies", "create"], "--f", "--file")],
)  # fmt: skip
def test_a_shell_is_offered_commands_and_options(words: list[str], begun: str, offered: str) -> None:
    asked = {"_MICLIP_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": " ".join(["miclip", *words, begun])}
    result = CliRunner().invoke(app, [], env=asked, prog_name="miclip")
    assert f'"{offered}"' in result.stdout
