"""How commands speak: tables and sentences for people, one JSON value for programs, errors to standard error."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from miclip.cli.extras import advice
from miclip.errors import InvalidInput, MiclipError
from miclip.names import LayerName, ModelName, UnitName


class _Screen(Console):
    """Standard output; a reader that closes it early is no failure."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


out: Console = _Screen(highlight=False, soft_wrap=False)
err = Console(highlight=False, stderr=True)

T = TypeVar("T")

_COMMANDS = {"ListPolicies": "`miclip steer list`", "ListVocabularies": "`miclip vocabularies list`"}
"""What a server's errors call by the name of an RPC."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else on standard output.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV with a header line and nothing else on standard output.")]


class Commands(TyperGroup):
    """A group of commands whose expected errors, and files that fail, end as a message and exit code 1."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for command in self.commands.values():
            command.help = unwrapped(command.help)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own context is a subclass
        """Run the command; turn a MiclipError, or the system's word on a file, into a text and exit code 1.

        A library that is not installed is a text and exit code 2.
        """
        try:
            return super().invoke(ctx)
        except MiclipError as error:
            fail(error)
            raise typer.Exit(1) from error
        except BrokenPipeError:
            _silence_stdout()
            raise typer.Exit(0) from None
        except ModuleNotFoundError as error:
            text = advice(error)
            if text is None:
                raise
            err.print(f"[bold red]Error:[/] {_plain(text)}", soft_wrap=True)
            raise typer.Exit(2) from error
        except OSError as error:
            if error.strerror is None:
                raise
            _silence_stdout()  # it may be what fails
            err.print(f"[bold red]Error:[/] {_plain(_said(error))}", soft_wrap=True)
            raise typer.Exit(1) from error


def unwrapped(docstring: str | None) -> str:
    """Join the lines of a paragraph: they are as long as the code's, not the terminal's."""
    return re.sub(r"(?<=\S)\n(?=\S)", " ", docstring or "")


def fail(error: MiclipError) -> None:
    """Print an error's text, and what is allowed when the text does not already say it."""
    text = re.sub("|".join(_COMMANDS), lambda found: _COMMANDS[found[0]], error.message)
    err.print(f"[bold red]Error:[/] {_plain(text)}", soft_wrap=True)
    if error.allowed and error.allowed not in error.message:
        err.print(f"Allowed: {_plain(error.allowed)}", soft_wrap=True)


def note(text: str) -> None:
    """Print a remark for the person at the terminal; never on standard output."""
    err.print(f"[dim]{_plain(text)}[/]", soft_wrap=True)


def emit(value: Any, as_json: bool, render: Callable[[], None], sheet: Sheet | None = None) -> None:
    """Print ``value`` as JSON, or ``sheet`` as CSV where there is one, or let ``render`` show it to a person.

    Raises:
        InvalidInput: JSON and CSV are both asked for.
    """
    if as_json and sheet is not None:
        raise InvalidInput("--csv: --json is given, too; give one of the two.", field="--csv", allowed="without --json")
    if as_json:
        emit_json(value, indent=2)
    elif sheet is not None:
        emit_csv(sheet)
    else:
        render()


class Sheet(NamedTuple):
    """A flat table for spreadsheets and programs; a cell of None is empty."""

    columns: tuple[str, ...]
    rows: Iterable[Sequence[object]]


def sheet_of(columns: Mapping[str, Callable[[T], object]], values: Iterable[T]) -> Sheet:
    """Return one row a value, each cell made by the column's function."""
    return Sheet(tuple(columns), [[cell(value) for cell in columns.values()] for value in values])


def emit_csv(sheet: Sheet) -> None:
    """Print a sheet with a header line, as RFC 4180 has it."""
    writer = csv.writer(sys.stdout)
    writer.writerow(sheet.columns)
    for row in sheet.rows:
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in row])


def emit_json(value: Any, indent: int | None = None) -> None:
    """Print ``value``, of which ``plain`` makes JSON, on one line without ``indent``."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(plain(value), ensure_ascii=not unicode, indent=indent, allow_nan=False))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: a dataclass by its fields, a resource name as its text."""
    if isinstance(value, ModelName | LayerName | UnitName):
        return str(value)
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def table(*columns: str) -> Table:
    """Return an empty table; a column whose name starts with ``>`` is aligned to the right."""
    made = Table(header_style="dim", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return made


def show(title: str, made: Table, caption: str = "") -> None:
    """Print a table with a title above and a caption below, neither of which it bends to its width."""
    out.print(f"[bold]{_plain(title)}[/]", soft_wrap=True)
    out.print(made)
    if caption:
        out.print(f"[dim]{_plain(caption)}[/]", soft_wrap=True)


def text(value: object) -> str:
    """Escape ``value`` for a table cell: brackets in names and labels are not markup."""
    return _plain(str(value))


def number(value: float | None, digits: int = 3) -> str:
    """Format a number for a cell; a missing one is a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(value: str) -> str:
    return value.replace("[", "\\[")


def _said(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}."


def _silence_stdout() -> None:
    """Point standard output nowhere, so that the interpreter's last flush does not complain about a closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
