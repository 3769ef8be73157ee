"""What a receipt measures, on a model whose unit k drives label k; the activation service is played by a test."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest

from miclip.errors import InvalidInput
from miclip.evidence import Evidence, LabelShare
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import ConceptSteering
from miclip.steering.receipt import Receipt
from miclip.v1 import activation_pb2
from services.steering.probes import GivenProbes
from services.steering.receipts import Measurer

LABELS = ("strawberry", "pear", "dog", "cat", "bus")
MODEL = activation_pb2.Model(
    name="models/m", labels=LABELS, layers=[activation_pb2.Layer(name="models/m/layers/a", units=len(LABELS))]
)


class Activation:
    """Runs the toy model: an image is the name of what it shows, its activations are 2 there and 1 elsewhere."""

    async def call(self, method: str, request: Any) -> Any:
        answer = activation_pb2.CaptureActivationsResponse(weights_sha256="w")
        for image in request.images:
            values = np.ones(len(LABELS)) + (np.array(LABELS) == image.decode())
            for edit in request.edits.edits:
                values[edit.unit] *= edit.scale
            result = answer.results.add()
            for layer in request.layers:
                result.layers.add(layer=layer, values=values)
        return answer


class Shown:
    """Three images of every label but the bus, whose names say what they show."""

    def images(self, target: Collection[int]) -> tuple[Sequence[bytes], Sequence[int] | None]:
        places = [place for place in range(4) for _ in range(3)]
        return [LABELS[place].encode() for place in places], places

    def source(self, target: Collection[int]) -> str:
        return f"toys for {sorted(target)}"


def concept(text: str, *labels: tuple[str, float]) -> ConceptSteering:
    evidence = Evidence(0.5, 99.0, False, tuple(LabelShare(*label) for label in labels)) if labels else None
    return ConceptSteering(text=text, scale=0, evidence=evidence)


async def receipt(probes: Any, found_by: ConceptSteering | None, target_label: str = "") -> Receipt:
    measurer = Measurer(Activation(), None, max_images=64, max_texts=64)  # type: ignore[arg-type]
    edits = [Edit("a", 0, Op.SCALE, 0.0), Edit("a", 1, Op.SCALE, 0.0)]
    return await measurer.receipt(MODEL, edits, probes, concept=found_by, target_label=target_label)


async def test_a_category_is_measured_on_the_labels_that_it_covers() -> None:
    fruit = concept("fruit", ("strawberry", 0.6), ("pear", 0.2), ("dog", 0.01))
    value = await receipt(Shown(), fruit)
    assert [(one.label, round(one.share, 6), one.images) for one in value.targets] == [
        ("strawberry", 0.75, 3), ("pear", 0.25, 3)
    ]  # fmt: skip
    powers = np.exp([2.0, 1, 1, 1, 1]), np.exp([0.0, 0, 1, 1, 1])
    before, after = (float(each[:2].sum() / each.sum()) for each in powers)
    assert value.target_change == pytest.approx(after - before, abs=1e-6)
    assert [one.change for one in value.targets] == pytest.approx([after - before] * 2, abs=1e-6)
    assert (value.target_label, value.target_images, value.images) == ("strawberry", 6, 12)
    assert value.off_target_change > 0
    assert value.measured_on == "toys for [0, 1]"
    powers_alone = np.exp([0.0, 1, 1, 1, 1]), np.exp([2.0, 0, 1, 1, 1])  # the first unit alone, the second alone
    on_strawberry = [float(each[:2].sum() / each.sum()) - before for each in powers_alone]
    expected = [0.75 * on_strawberry[0] + 0.25 * on_strawberry[1], 0.75 * on_strawberry[1] + 0.25 * on_strawberry[0]]
    assert [unit.target_change for unit in value.units] == pytest.approx(expected, abs=1e-6)


async def test_a_concept_that_is_a_label_is_that_label_alone() -> None:
    value = await receipt(Shown(), concept("pear", ("pear", 0.6), ("strawberry", 0.4)))
    assert [(one.label, one.share) for one in value.targets] == [("pear", 1.0)]


async def test_covered_labels_without_images_leave_their_share_to_the_others() -> None:
    value = await receipt(Shown(), concept("red things", ("bus", 0.5), ("strawberry", 0.3), ("pear", 0.2)))
    assert [(one.label, round(one.share, 6)) for one in value.targets] == [("strawberry", 0.6), ("pear", 0.4)]


async def test_a_named_target_counts_before_the_concept() -> None:
    value = await receipt(Shown(), concept("fruit", ("strawberry", 0.6)), target_label="cat")
    assert (value.target_label, [one.label for one in value.targets]) == ("cat", ["cat"])


async def test_edits_by_hand_are_measured_on_the_label_that_changes_most() -> None:
    value = await receipt(Shown(), None)
    assert [one.label for one in value.targets] in (["strawberry"], ["pear"])


async def test_images_that_the_model_takes_for_something_else_are_not_said_to_show_nothing() -> None:
    """A picture of a bus that the model takes for a cat: whether it shows a bus is not for the server to say."""
    probes = GivenProbes([b"cat", b"cat", b"dog"])
    with pytest.raises(InvalidInput, match=r"takes none of the images for 'bus', but for 'cat' \(2\), 'dog' \(1\)"):
        await receipt(probes, concept("bus"))


async def test_a_label_that_no_image_of_the_server_shows_is_said_to_be_missing_there() -> None:
    with pytest.raises(InvalidInput, match="The server has no image of 'bus'") as caught:
        await receipt(Shown(), None, target_label="bus")
    assert caught.value.field == "images"
