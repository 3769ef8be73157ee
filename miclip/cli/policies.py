"""Policies, receipts and stops as JSON, and as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from miclip.cli import output
from miclip.cli.specs import short_layer, short_unit
from miclip.names import parse_unit
from miclip.steering.edits import Edit
from miclip.steering.policy import Policy
from miclip.steering.receipt import Preview, Receipt
from miclip.steering.stop import Stop

_SIGNS = {"scale": "×", "add": "+", "clamp": "="}


def as_json(values: Sequence[BaseModel]) -> list[dict[str, Any]]:
    """Return policies or stops as JSON values, with the names that they have in Python."""
    return [value.model_dump(mode="json") for value in values]


def preview_json(preview: Preview) -> dict[str, Any]:
    """Return a receipt as JSON values, with the edits measured and the evidence for them."""
    value = asdict(preview)
    return {**value.pop("receipt"), **value}


def edit_text(edit: Edit) -> str:
    """Return an edit as people read it, and ``--steer`` takes it: ``layer4/12 ×2``."""
    return f"{short_layer(edit.layer)}/{edit.unit} {_SIGNS[edit.op]}{edit.value:g}"


def edits_text(edits: Sequence[Edit], limit: int = 8) -> str:
    """Return edits as people read them: ``layer4/12 ×2``, ``layer4@topk-512/12 ×2``."""
    shown = [edit_text(edit) for edit in edits[:limit]]
    more = len(edits) - limit
    how = ", in the reconstruction" if any(edit.reconstruct for edit in edits) else ""
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") + how


SHEET: dict[str, Callable[[Policy], object]] = {
    "policy": lambda each: each.policy_id,
    "model": lambda each: each.model,
    "concept": lambda each: each.concept.text if each.concept else None,
    "edits": lambda each: edits_text(each.edits, limit=len(each.edits)),
    "traffic_share": lambda each: each.traffic_share,
    "ttl_seconds": lambda each: each.ttl_seconds,
    "expire_time": lambda each: each.expire_time.isoformat() if each.expire_time else None,
    "norm_limit": lambda each: each.norm_limit,
    "version": lambda each: each.version,
    "description": lambda each: each.description,
}
"""Columns of --csv."""


def show_policies(policies: Sequence[Policy]) -> None:
    """Print policies as a table."""
    if not policies:
        output.out.print('No policies. Make one: miclip steer create more-dogs "dog=2.0"')
        return
    table = output.table("policy", "model", "does", ">share", "expires", ">version")
    for policy in policies:
        concept = f'"{policy.concept.text}": ' if policy.concept else ""
        table.add_row(
            output.text(policy.policy_id),
            output.text(policy.model),
            output.text(concept + edits_text(policy.edits)),
            f"{policy.traffic_share:.0%}",
            moment(policy.expire_time) or "never",
            str(policy.version),
        )
    output.show("Policies", table)


def show_stops(stops: Sequence[Stop]) -> None:
    """Print where steering is stopped."""
    if not stops:
        output.out.print("Steering is on for all models.")
    for stop in stops:
        where, reason = output.text(stop.model or "all models"), output.text(stop.reason)
        output.out.print(f"Steering of {where} is stopped: {reason}", soft_wrap=True)


def show_receipt(receipt: Receipt) -> None:
    """Print what a policy does."""
    caption = (
        f"each label on the images that show it: {receipt.images} images, {receipt.target_images} of them of the target"
    )
    caption += f": {receipt.measured_on}" if receipt.measured_on else ""
    table = output.table("probability of", ">policy", ">random units")
    targets = receipt.targets
    name = output.text(targets[0].label) if len(targets) == 1 else f"these {len(targets)} labels together"
    table.add_row(name, _points(receipt.target_change), _points(receipt.random_target_change))
    for target in targets if len(targets) > 1 else ():
        table.add_row(f"  on {output.text(target.label)} ({target.share:.0%})", _points(target.change), "")
    table.add_row("the other labels", _points(receipt.off_target_change), _points(receipt.random_off_target_change))
    output.show(f"What the policy does to {_names([target.label for target in targets])}", table, caption)
    output.out.print(
        f"Specificity {receipt.specificity:.2f} (1: only the target changes) · "
        f"largest change of a layer {receipt.norm_change:.2f} of its norm\n",
        soft_wrap=True,
    )
    units = output.table("unit", ">activation", ">→", ">target")
    for unit in receipt.units:
        units.add_row(
            output.text(short_unit(parse_unit(unit.unit))),
            output.number(unit.mean_before),
            output.number(unit.mean_after),
            _points(unit.target_change),
        )
    output.show("Its units, each alone", units)


def _names(labels: Sequence[str]) -> str:
    quoted = [f'"{label}"' for label in labels]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def moment(time: datetime | None) -> str:
    """Return a time in UTC, cut to seconds; empty for None."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if time else ""


def _points(change: float) -> str:
    return f"{100 * change:+.1f} pts"
