"""``miclip steer watch``: changes of policies, and of the kill switch, as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output, policies
from miclip.cli.connect import client

if TYPE_CHECKING:
    from miclip.client import PolicyStream
    from miclip.steering.changes import PolicyChange
    from miclip.steering.policy import Policy
    from miclip.steering.stop import Stop

_ATTEMPTS = 20  # a minute and more: a server that is updated comes back

Watched = Annotated[str, typer.Option("--model", "-m", help="Only this model, and the stop of all; default all.")]
Lines = Annotated[bool, typer.Option("--json", help="Print one JSON value a line, as it happens, and nothing else.")]


def watch(model: Watched = "", as_json: Lines = False) -> None:
    """Print what changes, as it happens: first all there is. Ctrl-C ends it.

    Examples:
        miclip steer watch --model emoji-resnet

        miclip steer watch --json | while read -r event; do …
    """
    with client() as connected:
        connected.list_stops()  # a server that is not there is said at once, not after a minute
        stream = connected.with_options(attempts=_ATTEMPTS).watch_policies(model)
        if not as_json:
            output.note(f"Watching policies of {model or 'all models'}; Ctrl-C ends it.")
        try:
            for event in _events(stream):
                _print(event, as_json)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        finally:
            stream.close()


def _events(stream: PolicyStream) -> Iterator[dict[str, Any]]:
    """What happens, with values as they are; heartbeats only where they tell that the server cannot reach its store."""
    policies_: list[Policy] = []
    stops: list[Stop] = []
    stale = False
    for message in stream:
        if message.snapshot:
            part = message.snapshot
            policies_, stops = ([], list(part.stops)) if part.first else (policies_, stops)
            policies_ += part.policies
            if part.last:
                yield {"event": "snapshot", "time": message.send_time, "policies": policies_, "stops": stops}
        elif message.change:
            yield {**_change(message.change), "time": message.send_time}
        if message.stale != stale:
            stale = message.stale
            yield {"event": "stale" if stale else "fresh", "time": message.send_time}


def _change(change: PolicyChange) -> dict[str, Any]:
    value: dict[str, Any] = {"event": change.kind.value, "model": change.model}
    if change.policy:
        return {**value, "policy": change.policy}
    if change.stop:
        return {**value, "stop": change.stop}
    return {**value, "policy_id": change.policy_id} if change.policy_id else value


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.emit_json({name: _plain(value) for name, value in event.items()})
    elif event["event"] == "snapshot":
        policies.show_policies(event["policies"])
        policies.show_stops(event["stops"])
    else:
        local = event["time"].astimezone().strftime("%H:%M:%S")
        output.out.print(f"{local}  {event['event']:<8}  {output.text(_sentence(event))}", soft_wrap=True)


def _plain(value: Any) -> Any:
    """A value of an event as JSON holds it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return policies.as_json(value)
    return value if isinstance(value, str) else policies.as_json([value])[0]


def _sentence(event: dict[str, Any]) -> str:
    if "policy" in event:
        policy: Policy = event["policy"]
        ends = f", until {policies.moment(policy.expire_time)}" if policy.expire_time else ""
        does = f"{policies.edits_text(policy.edits)} for {policy.traffic_share:.0%}{ends}"
        return f"{policy.policy_id} of {policy.model}, version {policy.version}: {does}"
    if "policy_id" in event:
        return f"{event['policy_id']} of {event['model']}"
    if event["event"] in ("stale", "fresh"):
        return "the server cannot reach its store" if event["event"] == "stale" else "it can again"
    reason = f": {event['stop'].reason}" if "stop" in event else ""
    return f"{event['model'] or 'all models'}{reason}"
