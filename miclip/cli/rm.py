"""``miclip rm``: remove imported models and atlases from this machine."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from miclip.cli import output
from miclip.errors import InvalidInput
from miclip.local_server import SERVER_FILE, read_json
from miclip.settings import settings

_KINDS = "models/ID or atlases/ID"

Names = Annotated[list[str], typer.Argument(metavar="NAME…", help=f"{_KINDS}; of an atlas the first digits will do.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", help="Also what is active: the model then has no atlas of its own.")]


def rm(names: Names, yes: Yes = False, force: Force = False, as_json: output.Json = False) -> None:
    """Remove imported models or atlases from this machine, after asking.

    What comes with a bundle stays. The atlases of a model that is removed stay, too, and can be removed by name.

    Examples:
        miclip rm models/photos

        miclip rm atlases/3798cb9b65cb --yes
    """
    found = [_resolve(name) for name in names]
    if not yes:
        _ask(found)
    for kind, identifier in found:
        _remove(kind, identifier, force)
    if server := _running_server():
        output.note(f"A server runs here, at {server}: it answers from what it has loaded until `miclip stop`.")
    removed = [f"{kind}/{identifier}" for kind, identifier in found]
    output.emit({"removed": removed}, as_json, lambda: output.out.print(f"Removed {output.text(', '.join(removed))}."))


def _resolve(name: str) -> tuple[str, str]:
    """Return kind and full id; raises NotFound before anything is asked or removed."""
    kind, _, identifier = name.partition("/")
    if kind == "models" and identifier:
        from miclip.catalogue import check_known

        check_known(identifier)
        return kind, identifier
    if kind == "atlases" and identifier:
        from miclip.atlas import full_atlas_id

        return kind, full_atlas_id(identifier)
    raise InvalidInput(f"NAME: {name[:80]!r} is not {_KINDS}.", field="NAME", allowed=_KINDS)


def _ask(found: list[tuple[str, str]]) -> None:
    shown = ", ".join(f"{kind}/{identifier[:12] if kind == 'atlases' else identifier}" for kind, identifier in found)
    if not sys.stdin.isatty():
        raise InvalidInput(f"Removing {shown} cannot be undone. Add --yes.", field="--yes")
    typer.confirm(f"Remove {shown}? This cannot be undone.", abort=True, err=True)


def _remove(kind: str, identifier: str, force: bool) -> None:
    if kind == "models":
        from miclip.catalogue import Catalogue

        Catalogue().remove_model(identifier, force=force)
    else:
        from miclip.atlas import remove_atlas

        remove_atlas(identifier, force=force)


def _running_server() -> str:
    """Address of the server of this machine; empty where none runs."""
    info = read_json(settings().state_dir / SERVER_FILE) or {}
    try:
        os.kill(int(info["pid"]), 0)
    except (KeyError, ValueError, OSError):
        return ""
    return str(info.get("grpc", ""))
