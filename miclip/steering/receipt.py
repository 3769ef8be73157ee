"""Receipts: what edits do to their target and to everything else, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from miclip.evidence import Evidence
from miclip.steering.edits import Edit


@dataclass(frozen=True)
class UnitReceipt:
    """What a policy does to one unit.

    Attributes:
        unit: Full name of the unit.
        mean_before: Mean pooled activation over the images before the edits, in units of the activation.
        mean_after: The same after all edits.
        target_change: Change of the target's probability on its images when this unit alone is edited, -1 to 1.
    """

    unit: str
    mean_before: float
    mean_after: float
    target_change: float


@dataclass(frozen=True)
class TargetLabel:
    """A label that counts as target.

    Attributes:
        label: The label.
        share: Of the target, above 0 to 1; the shares of a receipt sum to 1.
        images: Images that show it.
        change: Mean change, over these images, of the probability of the target's labels together, -1 to 1.
    """

    label: str
    share: float
    images: int
    change: float


@dataclass(frozen=True)
class Receipt:
    """What a policy does, measured on images.

    Attributes:
        target_label: The label that counts as target; the one of the largest share where there are several.
        target_change: Mean change of the target's probability over the images that show it, -1 to 1. Of several labels
            the probabilities add up, and the changes on the images of each are averaged by the labels' shares.
        off_target_change: Mean over the other labels of the change on the images that show them, -1 to 1.
        specificity: 1 - mean absolute change of the other labels / absolute change of the target, at most 1.
        random_target_change: As ``target_change``, for the same edits of as many random units: the control.
        random_off_target_change: As ``off_target_change``, for the random units.
        norm_change: Largest L2 change of a layer's pooled activation relative to the layer's typical norm, 0 or more.
        units: One entry an edited unit, in order of the edits.
        images: Images measured.
        target_images: Images that show the target.
        seconds: Wall time.
        targets: The labels that count as target, by falling share: one, or those that a category covers.
        measured_on: What the images are, and who says what they show.
    """

    target_label: str
    target_change: float
    off_target_change: float
    specificity: float
    random_target_change: float
    random_off_target_change: float
    norm_change: float
    units: tuple[UnitReceipt, ...]
    images: int
    target_images: int
    seconds: float
    targets: tuple[TargetLabel, ...]
    measured_on: str = ""


@dataclass(frozen=True)
class Preview:
    """Answer of a preview.

    Attributes:
        receipt: What the policy does.
        edits: The edits that were measured.
        evidence: How far the units of its concept are to be trusted; None where it has none, or cosines ranked them.
    """

    receipt: Receipt
    edits: tuple[Edit, ...]
    evidence: Evidence | None
