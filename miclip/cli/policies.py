"""Policies, receipts and stops as plain values, and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from miclip.cli import output
from miclip.cli.specs import short_layer, short_unit
from miclip.names import parse_layer, parse_unit
from miclip.retrieval.results import Evidence
from miclip.v1.resources_pb2 import Edit
from miclip.v1.steering_pb2 import ConceptSteering, Policy, PreviewPolicyResponse, Receipt, SteeringStop
from miclip.wire.common import read_evidence

_SIGNS = {"scale": "×", "add": "+", "clamp": "="}


def policy_value(policy: Policy) -> dict[str, Any]:
    """Return a policy as plain values; ``expire_time`` is null where it lives for ever."""
    return {
        "policy": policy.name.removeprefix("policies/"),
        "model": policy.model.removeprefix("models/"),
        "concept": policy.concept.text if policy.WhichOneof("steering") == "concept" else "",
        "evidence": evidence_of(policy.concept),
        "edits": [edit_value(edit) for edit in policy.resolved_edits],
        "ttl_seconds": policy.ttl_seconds,
        "expire_time": _time(policy, "expire_time"),
        "traffic_share": policy.traffic_share if policy.HasField("traffic_share") else 1.0,
        "norm_limit": policy.norm_limit,
        "description": policy.description,
        "version": policy.version,
        "etag": policy.etag,
        "create_time": _time(policy, "create_time"),
        "update_time": _time(policy, "update_time"),
        "created_by": policy.created_by,
    }


def edit_value(edit: Edit) -> dict[str, Any]:
    """Return an edit as plain values."""
    op = edit.WhichOneof("op") or "scale"
    return {"layer": parse_layer(edit.layer).layer, "unit": edit.unit, "op": op, "value": getattr(edit, op),
            "relative_to_max": edit.relative_to_max, "reconstruct": edit.reconstruct}  # fmt: skip


def evidence_of(message: ConceptSteering | PreviewPolicyResponse) -> Evidence | None:
    """Return how far the units of a policy's concept are to be trusted; None where that is not known."""
    return read_evidence(message.evidence) if message.HasField("evidence") else None


def edits_text(edits: Sequence[dict[str, Any]], limit: int = 8) -> str:
    """Return edits as people read them: ``layer4/12 ×2``, ``layer4@topk-512/12 ×2``."""
    shown = [f"{short_layer(edit['layer'])}/{edit['unit']} {_SIGNS[edit['op']]}{edit['value']:g}"
             for edit in edits[:limit]]  # fmt: skip
    more = len(edits) - limit
    how = ", in the reconstruction" if any(edit["reconstruct"] for edit in edits) else ""
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") + how


def stop_value(stop: SteeringStop) -> dict[str, Any]:
    """Return a stop as plain values; ``model`` is empty where all models are stopped."""
    return {"model": stop.model.removeprefix("models/"), "reason": stop.reason, "stop_time": _time(stop, "stop_time"),
            "stopped_by": stop.stopped_by}  # fmt: skip


def receipt_value(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as plain values."""
    names = ("target_label", "target_change", "off_target_change", "specificity", "random_target_change",
             "random_off_target_change", "norm_change", "images", "target_images", "seconds")  # fmt: skip
    unit_names = ("unit", "mean_before", "mean_after", "target_change")
    units = [{name: getattr(unit, name) for name in unit_names} for unit in receipt.units]
    return {**{name: getattr(receipt, name) for name in names}, "units": units}


def show_policies(policies: Sequence[dict[str, Any]]) -> None:
    """Print policies as a table."""
    if not policies:
        output.out.print('No policies. Make one: miclip steer create more-dogs "dog=2.0"')
        return
    shown = output.table("policy", "model", "does", ">share", "expires", ">version")
    for policy in policies:
        concept = f'"{policy["concept"]}": ' if policy["concept"] else ""
        shown.add_row(
            output.text(policy["policy"]), output.text(policy["model"]),
            output.text(concept + edits_text(policy["edits"])), f"{policy['traffic_share']:.0%}",
            _moment(policy["expire_time"]) or "never", str(policy["version"]),
        )  # fmt: skip
    output.show("Policies", shown)


def show_stops(stops: Sequence[dict[str, Any]]) -> None:
    """Print where steering is stopped."""
    if not stops:
        output.out.print("Steering is stopped nowhere.")
    for stop in stops:
        where = stop["model"] or "all models"
        output.out.print(f"Steering of {output.text(where)} is stopped: {output.text(stop['reason'])}", soft_wrap=True)


def show_receipt(value: dict[str, Any]) -> None:
    """Print what a policy does."""
    caption = f"measured on {value['images']} images, {value['target_images']} of them of the target"
    shown = output.table("probability of", ">policy", ">random units")
    shown.add_row(output.text(value["target_label"]), _points(value["target_change"]),
                  _points(value["random_target_change"]))  # fmt: skip
    shown.add_row("the other labels", _points(value["off_target_change"]), _points(value["random_off_target_change"]))
    output.show(f'What the policy does to "{value["target_label"]}"', shown, caption)
    output.out.print(
        f"Specificity {value['specificity']:.2f} (1: only the target changes) · "
        f"largest change of a layer {value['norm_change']:.2f} of its norm\n"
    )
    units = output.table("unit", ">activation", ">→", ">target")
    for unit in value["units"]:
        name = short_unit(parse_unit(unit["unit"]))
        units.add_row(output.text(name), output.number(unit["mean_before"]), output.number(unit["mean_after"]),
                      _points(unit["target_change"]))  # fmt: skip
    output.show("Its units, each alone", units)


def _moment(time: str | None) -> str:
    """Cut an RFC 3339 time to seconds."""
    return f"{time[:10]} {time[11:19]} UTC" if time else ""


def _points(change: float) -> str:
    return f"{100 * change:+.1f} pts"


def _time(message: Policy | SteeringStop, field: str) -> str | None:
    if not message.HasField(field):
        return None
    moment: Timestamp = getattr(message, field)
    return moment.ToJsonString()
