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
    from miclip.v1.steering_pb2 import Policy, PolicyChange, SteeringStop

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
    """What happens, as plain values; heartbeats only where they tell that the server cannot reach its store."""
    found: list[Policy] = []
    stops: list[SteeringStop] = []
    stale = False
    for message in stream:
        time = message.send_time.ToJsonString()
        if message.WhichOneof("event") == "snapshot":
            part = message.snapshot
            found, stops = ([], list(part.stops)) if part.first else (found, stops)
            found += part.policies
            if part.last:
                yield {"event": "snapshot", "time": time, "policies": [policies.policy_value(one) for one in found],
                       "stops": [policies.stop_value(one) for one in stops]}  # fmt: skip
        elif message.WhichOneof("event") == "change":
            yield {**_change(message.change), "time": time}
        if message.stale != stale:
            stale = message.stale
            yield {"event": "stale" if stale else "fresh", "time": time}


def _change(change: PolicyChange) -> dict[str, Any]:
    from miclip.v1.steering_pb2 import PolicyChangeKind

    kind = PolicyChangeKind.Name(change.kind).removeprefix("POLICY_CHANGE_KIND_").lower()
    value: dict[str, Any] = {"event": kind, "model": change.model.removeprefix("models/")}
    if change.HasField("policy"):
        return {**value, "policy": policies.policy_value(change.policy)}
    if change.HasField("stop"):
        return {**value, "stop": policies.stop_value(change.stop)}
    return {**value, "name": change.name.removeprefix("policies/")} if change.name else value


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.emit_json(event)
    elif event["event"] == "snapshot":
        policies.show_policies(event["policies"])
        policies.show_stops(event["stops"])
    else:
        local = datetime.fromisoformat(event["time"]).astimezone().strftime("%H:%M:%S")
        output.out.print(f"{local}  {event['event']:<8}  {output.text(_sentence(event))}", soft_wrap=True)


def _sentence(event: dict[str, Any]) -> str:
    if "policy" in event:
        policy = event["policy"]
        ends = f", until {policy['expire_time']}" if policy["expire_time"] else ""
        does = f"{policies.edits_text(policy['edits'])} for {policy['traffic_share']:.0%}{ends}"
        return f"{policy['policy']} of {event['model']}, version {policy['version']}: {does}"
    if "name" in event:
        return f"{event['name']} of {event['model']}"
    if event["event"] in ("stale", "fresh"):
        return "the server cannot reach its store" if event["event"] == "stale" else "it can again"
    reason = f": {event['stop']['reason']}" if "stop" in event else ""
    return f"{event['model'] or 'all models'}{reason}"
