"""Promises of labels and verdicts on probe images as messages, and back."""

from __future__ import annotations

from dataclasses import asdict, fields

from miclip.names import LayerName, parse_layer
from miclip.promise import Promise, Verdict, advice
from miclip.v1 import resources_pb2 as pb


def write_promise(model: str, layer: str, value: Promise) -> pb.LayerPromise:
    """How often a layer's kept labels were right, as a message."""
    return pb.LayerPromise(layer=str(LayerName(model, layer)), **asdict(value))


def read_promise(message: pb.LayerPromise) -> tuple[str, Promise]:
    """A layer, without the model, and how often its kept labels were right."""
    return parse_layer(message.layer).layer, Promise(
        **{one.name: getattr(message, one.name) for one in fields(Promise)}
    )


def write_verdict(value: Verdict, reached: bool) -> pb.ProbeVerdict:
    """What the probe images can tell, as a message; ``reached``: whether any layer keeps labels."""
    return pb.ProbeVerdict(**asdict(value), text=f"{value}. {advice(value, reached)}".strip())


def read_verdict(message: pb.ProbeVerdict) -> Verdict:
    """What the probe images can tell."""
    return Verdict(**{one.name: getattr(message, one.name) for one in fields(Verdict)})
