"""Receipts as messages, and back."""

from __future__ import annotations

from miclip.steering.receipt import Preview, Receipt, TargetLabel, UnitReceipt
from miclip.v1 import steering_pb2 as pb
from miclip.wire.common import read_evidence
from miclip.wire.edits import read_edits

_FIELDS = [field for field in Receipt.__dataclass_fields__ if field not in ("units", "targets")]
_UNIT_FIELDS = [*UnitReceipt.__dataclass_fields__]
_TARGET_FIELDS = [*TargetLabel.__dataclass_fields__]


def write_receipt(receipt: Receipt) -> pb.Receipt:
    """A receipt as its message; the fields have the same names."""
    return pb.Receipt(
        **{name: getattr(receipt, name) for name in _FIELDS},
        units=[pb.UnitReceipt(**vars(unit)) for unit in receipt.units],
        targets=[pb.TargetLabel(**vars(target)) for target in receipt.targets],
    )


def read_receipt(message: pb.Receipt) -> Receipt:
    """A receipt that a server sent."""
    units = tuple(UnitReceipt(**{name: getattr(unit, name) for name in _UNIT_FIELDS}) for unit in message.units)
    targets = tuple(TargetLabel(**{name: getattr(one, name) for name in _TARGET_FIELDS}) for one in message.targets)
    return Receipt(**{name: getattr(message, name) for name in _FIELDS}, units=units, targets=targets)


def read_preview(response: pb.PreviewPolicyResponse) -> Preview:
    """The answer of PreviewPolicy."""
    evidence = read_evidence(response.evidence) if response.HasField("evidence") else None
    return Preview(read_receipt(response.receipt), read_edits(response.resolved_edits), evidence)
