"""``miclip key``: API keys of this machine's server, made and ended by who runs it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.errors import InvalidInput, NotFound, NotReady
from miclip.settings import settings

if TYPE_CHECKING:
    from services.state.keys import KeyRecord

app = typer.Typer(cls=output.Commands, no_args_is_help=True, help="API keys of the server that runs here.")

_NAME_CHARS = 128

Name = Annotated[str, typer.Argument(help="Who holds the key; a name may hold two, so that one can replace the other.")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="read, align or steer; repeat. Default: read.")]
KeyId = Annotated[str, typer.Argument(help="Id of the key, as `miclip key list` shows it.")]


@app.command()
def create(name: Name, scopes: Scopes = None, as_json: output.Json = False) -> None:
    """Make a key and print it, this once; the server stores its hash alone."""
    from services.node import key_admin
    from services.state.keys import Scope

    if not 1 <= len(name.strip()) <= _NAME_CHARS or not name.isprintable():
        allowed_name = f"1 to {_NAME_CHARS} printable characters"
        raise InvalidInput(f"NAME: {name[:80]!r} is no name; use {allowed_name}.", field="NAME", allowed=allowed_name)
    allowed = [scope.value for scope in Scope]
    for scope in scopes or []:
        if scope not in allowed:
            names = ", ".join(allowed)
            raise InvalidInput(f"--scope: {scope!r} is not one of {names}.", field="--scope", allowed=names)
    granted = [Scope(scope) for scope in scopes or [Scope.READ]]
    value = {"name": name, "scopes": [str(scope) for scope in granted], "key": ""}
    value["key"] = key_admin.create_key(_redis(), name, granted)
    output.emit(value, as_json, lambda: output.out.print(value["key"], markup=False, soft_wrap=True))


@app.command("list")
def list_(as_json: output.Json = False) -> None:
    """List the keys, without themselves."""
    from services.node import key_admin

    values = [_value(record) for record in key_admin.list_keys(_redis())]
    output.emit(values, as_json, lambda: _show(values))


@app.command()
def delete(key_id: KeyId, as_json: output.Json = False) -> None:
    """End a key; the services refuse it after two seconds at most."""
    from services.node import key_admin

    redis = _redis()
    if key_id not in [record.key_id for record in key_admin.list_keys(redis)]:
        raise NotFound(f"KEY_ID: there is no key {key_id!r}; `miclip key list` shows those there are.", field="KEY_ID")
    key_admin.remove_key(redis, key_id)
    output.emit({"deleted": key_id}, as_json, lambda: output.out.print(f"Deleted {output.text(key_id)}."))


def _redis() -> str:
    """Return the Redis of the server that runs here; the keys live there."""
    from services.node import control

    running = control.status()
    url = running.redis_url if running else settings().redis_url
    if not url:
        raise NotReady("No server runs here. Start one with `miclip serve --detach`; its Redis holds the keys.")
    return url


def _value(record: KeyRecord) -> dict[str, Any]:
    made = datetime.fromtimestamp(record.created_at, UTC).isoformat(timespec="seconds")
    return {"key_id": record.key_id, "name": record.name, "scopes": list(map(str, record.scopes)), "create_time": made}


def _show(values: list[dict[str, Any]]) -> None:
    shown = output.table("id", "name", "scopes", "made")
    for value in values:
        made = value["create_time"].replace("T", " ").replace("+00:00", " UTC")
        shown.add_row(value["key_id"], output.text(value["name"]), ", ".join(value["scopes"]), made)
    output.show("Keys", shown)
