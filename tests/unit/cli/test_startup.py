"""The command line answers at once: it imports what a command uses, when it is called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import typer

import miclip
from miclip.cli.app import Program
from miclip.cli.lazy import Entry, LazyCommands, load
from miclip.cli.output import unwrapped

HEAVY = frozenset({"torch", "torchvision", "ray", "faiss", "scipy", "sklearn", "transformers", "timm", "open_clip"})
RUN = """
import sys
from miclip.cli.app import main
try:
    main()
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    """The packages that a run of the program imports; it must succeed."""
    command = [sys.executable, "-c", RUN, *arguments]
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the tests may run under no shell
    done = subprocess.run(command, env=named, capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(done.stderr.strip().splitlines()[-1].replace("'", '"')))


@pytest.mark.parametrize("entry", Program.entries, ids=lambda entry: entry.name)
def test_no_help_of_a_command_imports_a_heavy_library(entry: Entry) -> None:
    assert imported(entry.name, "--help") & HEAVY == set()


def test_the_help_and_the_version_import_no_command() -> None:
    for arguments in (["--help"], ["--version"], ["--show-completion", "bash"]):
        assert imported(*arguments) & {*HEAVY, "grpc", "numpy", "services"} == set()


@pytest.mark.parametrize("entry", Program.entries, ids=lambda entry: entry.name)
def test_the_list_says_of_a_command_what_its_own_help_says_first(entry: Entry) -> None:
    assert entry.help == load(entry).help.partition("\n\n")[0]


def test_a_command_that_is_called_is_imported_and_gets_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    class Two(LazyCommands):
        entries = (Entry("describe", "One.", "Panel"), Entry("key", "Two.", "Panel", group=True))

    app = typer.Typer(cls=Two)
    app.callback()(lambda: None)
    for arguments in (["describe", "--help"], ["key", "create", "--help"]):
        with pytest.raises(SystemExit) as caught:
            app(arguments)
        assert caught.value.code == 0
        assert f"{arguments[-2]} [OPTIONS]" in capsys.readouterr().out


def completions(words: str) -> list[str]:
    """What bash offers after the words."""
    asked = {"_MICLIP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "from miclip.cli.app import app; app(prog_name='miclip')"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split()


def test_completion_knows_the_commands_and_those_within() -> None:
    assert completions("miclip lo") == ["localize"]
    assert {"create", "preview", "watch"} <= set(completions("miclip steer "))
    assert "--top-k" in completions("miclip localize --t")


def test_the_version_is_that_of_the_installation() -> None:
    assert miclip.__version__ == version("miclip")
    assert not hasattr(miclip, "no_such_name")


def test_paragraphs_fill_the_terminal() -> None:
    assert unwrapped("a\nb\n\nc") == "a b\n\nc"
    assert unwrapped(None) == ""
