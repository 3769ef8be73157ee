"""``miclip vocabularies``: the lists of concepts that a server describes units with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.cli.connect import client
from miclip.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from miclip.v1.retrieval_pb2 import Vocabulary

app = typer.Typer(
    cls=output.Commands,
    no_args_is_help=True,
    help="Vocabularies of a server: lists of concepts that units are described with.",
)

VocabularyId = Annotated[str, typer.Argument(help="Id of the vocabulary: letters, digits, '_', '.' and '-'.")]
Concepts = Annotated[list[str] | None, typer.Argument(help="Concepts, each once.")]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="Text file with one concept a line; `-` is standard input.")
]
_SHEET: dict[str, Callable[[dict[str, Any]], object]] = {
    name: lambda each, name=name: each[name]  # type: ignore[misc]  # the name of this column
    for name in ("vocabulary", "size", "builtin", "create_time", "sha256")
}


@app.command("list")
def list_(as_json: output.Json = False, as_csv: output.Csv = False) -> None:
    """List the vocabularies, those that come with miclip and those of users.

    Examples:
        miclip vocabularies list
    """
    with client() as connected:
        found = [_value(each) for each in connected.list_vocabularies()]
    output.emit(found, as_json, lambda: _show(found), output.sheet_of(_SHEET, found) if as_csv else None)


@app.command()
def show(vocabulary_id: VocabularyId, as_json: output.Json = False) -> None:
    """Show one vocabulary: its size, its hash and when it was made.

    Examples:
        miclip vocabularies show emoji
    """
    with client() as connected:
        found = {each["vocabulary"]: each for each in map(_value, connected.list_vocabularies())}
    value = found.get(vocabulary_id.removeprefix("vocabularies/"))
    if value is None:
        names = ", ".join(found)
        raise NotFound(f"There is no vocabulary {vocabulary_id!r}; there are {names}.", field="VOCABULARY_ID")
    output.emit(value, as_json, lambda: _show([value]))


@app.command()
def create(
    vocabulary_id: VocabularyId, concepts: Concepts = None, file: File = None, as_json: output.Json = False
) -> None:
    """Make a vocabulary, whose name `miclip describe --vocabulary` then takes.

    Examples:
        miclip vocabularies create textures fur "smooth metal" water

        miclip vocabularies create nouns --file nouns.txt
    """
    texts = [*(concepts or []), *(_lines(file) if file else ())]
    if not texts:
        raise InvalidInput("No concepts. Name them, or a --file with one a line.", field="CONCEPTS")
    with client() as connected:
        value = _value(connected.create_vocabulary(vocabulary_id, texts))
    output.emit(value, as_json, lambda: _show([value]))


@app.command()
def delete(vocabulary_id: VocabularyId, as_json: output.Json = False) -> None:
    """Delete a vocabulary that a user made.

    Examples:
        miclip vocabularies delete textures
    """
    with client() as connected:
        connected.delete_vocabulary(vocabulary_id)
    value = {"deleted": vocabulary_id}
    output.emit(value, as_json, lambda: output.out.print(f"Deleted {output.text(vocabulary_id)}."))


def _lines(file: Path) -> Iterator[str]:
    """The lines of a file that hold something."""
    text = sys.stdin.read() if file == Path("-") else file.read_text(encoding="utf-8")
    return (line.strip() for line in text.splitlines() if line.strip())


def _value(message: Vocabulary) -> dict[str, Any]:
    made = message.create_time.ToJsonString() if message.HasField("create_time") else None
    name = message.name.removeprefix("vocabularies/")
    return {
        "vocabulary": name,
        "size": message.size or None,  # that of the model's labels depends on the model
        "builtin": message.builtin,
        "create_time": made,
        "sha256": message.sha256,
    }


def _show(values: Sequence[dict[str, Any]]) -> None:
    table = output.table("vocabulary", ">concepts", "made", "sha256")
    for value in values:
        size = "as the model" if value["size"] is None else str(value["size"])
        made = "with miclip" if value["builtin"] else value["create_time"]
        table.add_row(output.text(value["vocabulary"]), size, output.text(made), value["sha256"][:12])
    output.show("Vocabularies", table)
