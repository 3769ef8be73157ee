"""How far labels are to be trusted: what the alignment measured of them on images that it had left out.

Plain values: atlases keep them, services and the command line say them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AbstainReason = Literal["", "effect", "chance", "promise", "confidence"]
"""Why a label abstains: the unit does not raise it (``effect``); it stands out no more than for random directions
(``chance``); no label of the layer can be promised to be right (``promise``); or this one held too seldom on images
left out (``confidence``). Empty where it is kept."""

LEAST_SHOWN = 2
"""Parts of the probe images that must show a class before a label that names it can be judged."""


@dataclass(frozen=True)
class Promise:
    """How often a layer's kept labels were right on images left out.

    Attributes:
        wanted: Share that shall be right, by the lower end of a one-sided 95 % interval, 0 to 1.
        reached: Whether some labels reach it; where not, every label of the layer abstains.
        precision: Share of the kept labels that was right, 0 to 1; where the promise is not reached, of those that
            come nearest to it.
        low: Lower end of its interval, 0 to 1, counted by units.
        coverage: Share of the layer's units whose labels are kept, 0 to 1.
        confidence: Confidence from which on labels are kept, 0 to 1.
    """

    wanted: float
    reached: bool
    precision: float
    low: float
    coverage: float
    confidence: float

    def __str__(self) -> str:
        """Return the sentence that people read."""
        error = f"{100 * self.precision:.0f} % ± {100 * (self.precision - self.low):.0f}"
        if self.reached:
            return (
                f"labels kept here were right for {error} of units on images left out, recoloured; "
                f"{100 * self.coverage:.0f} % of units keep theirs"
            )
        short = f"which does not make {100 * self.wanted:.0f} % sure"
        return f"no labels kept: the surest were right for {error} of units on images left out, recoloured, {short}"


@dataclass(frozen=True)
class Verdict:
    """Whether the probe images can tell what a model's units mean.

    Attributes:
        images: Probe images.
        labels: Labels that the model has.
        predicted: Labels that it predicted for any of them.
        judged: Labels that it predicted for images in two or more of the parts that judge: no other can be promised.
        images_a_label: Median number of images of the labels predicted.
        agreement: Share of the predicted labels whose images CLIP's image embedding finds nearest to their own text
            among the texts of all predicted labels, 0 to 1.
        chance: The same with the texts dealt anew, 0 to 1.
        p_value: Share of random dealings of all labels' texts whose images and texts agree as well, above 0 to 1.
        known: Whether CLIP's images and the model's labels agree beyond chance. Where they do not, labels of units
            would say nothing of the images, and all abstain.
    """

    images: int
    labels: int
    predicted: int
    judged: int
    images_a_label: float
    agreement: float
    chance: float
    p_value: float
    known: bool

    def __str__(self) -> str:
        """Return the sentence that people read."""
        counts = (
            f"{self.images:,} images show {self.predicted} of {self.labels:,} labels, {self.images_a_label:g} each "
            f"(median), {self.judged} of them often enough to judge"
        )
        clip = f"CLIP names {100 * self.agreement:.0f} % of these as the model does (chance {100 * self.chance:.0f} %)"
        return f"{counts}; {clip}" if self.known else f"{counts}; {clip}, which may be chance"


def advice(verdict: Verdict, reached: bool) -> str:
    """Return what to do about labels that abstain; empty where there is nothing to do."""
    if not verdict.known:
        return (
            "The predictions have nothing to do with what CLIP sees: give images that the model is meant for, the "
            "right names of its outputs, or a CLIP that knows such images (--clip)."
        )
    if reached:
        return ""
    return (
        "More images of more labels make labels surer: some 20 of each label are good. A CLIP that knows such images "
        "(--clip) helps, too."
    )
