"""Receipts: what a policy does to its target, to everything else, and what as many random units would have done.

All figures are measured by the activation service on images, through the RPC that clients use.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from miclip.errors import InvalidInput
from miclip.models.predictions import softmax
from miclip.names import UnitName, base_layer, parse_layer, parse_model
from miclip.steering.edits import Edit
from miclip.steering.effects import (
    Measured,
    effect_of,
    measured_layers,
    norm_change,
    random_edits,
    shown_labels,
)
from miclip.steering.receipt import Receipt, UnitReceipt
from miclip.v1 import activation_pb2
from services.rpc import Peer
from services.steering.probes import Probes
from services.wire.captures import capture
from services.wire.embeddings import embed_texts

_UNIT_ROWS = 512
"""Images that all single-unit measurements of a receipt may take together."""
_AT_ONCE = 8


class Measurer:
    """Makes receipts.

    Args:
        activation: Runs the model.
        aligner: Embeds the concept and the labels.
        max_images: Images of one call.
        max_texts: Texts of one call.
    """

    def __init__(self, activation: Peer, aligner: Peer, *, max_images: int, max_texts: int) -> None:
        self._activation, self._aligner = activation, aligner
        self._max_images, self._max_texts = max_images, max_texts

    async def receipt(
        self, model: activation_pb2.Model, edits: Sequence[Edit], probes: Probes, *, concept: str, target_label: str
    ) -> Receipt:
        """Measure edits on images.

        Args:
            model: The model with labels and layers.
            edits: Validated edits.
            probes: Images, and which label each shows where that is known.
            concept: Text the edits were found by; empty for edits by hand.
            target_label: Label that counts as target; empty to choose it.

        Raises:
            InvalidInput: the label does not exist, or no image shows it.
        """
        started = time.perf_counter()
        labels = list(model.labels)
        layers = measured_layers(edits)
        target = await self._named_target(labels, concept, target_label)
        if target is None:
            target = await self._most_changed(model.name, edits, probes)
        images, shown = await asyncio.to_thread(probes.images, target)
        before = await self._measure(model.name, images, (), layers)
        after = await self._measure(model.name, images, edits, layers)
        shows = shown_labels(shown, before)
        effect = effect_of(before, after, shows)
        on_target = [image for image, label in zip(images, shows, strict=True) if label == target]
        if not on_target:
            text = f"No image shows {labels[target]!r}; send images that do, or name another target_label."
            raise InvalidInput(text, field="images", allowed=f"images of which one shows {labels[target]!r}")
        control = [
            effect_of(before, await self._measure(model.name, images, drawn, layers), shows)
            for drawn in random_edits(edits, _layer_sizes(model), before)
        ]
        return Receipt(
            target_label=labels[target],
            target_change=effect.target(target),
            off_target_change=effect.mean_of_others(target),
            specificity=effect.specificity(target),
            random_target_change=float(np.mean([each.target(target) for each in control])),
            random_off_target_change=float(np.mean([each.mean_of_others(target) for each in control])),
            norm_change=norm_change(before, after),
            units=await self._units(model, edits, on_target, target, before, after),
            images=len(images),
            target_images=len(on_target),
            seconds=time.perf_counter() - started,
            measured_on=probes.source(target),
        )

    async def norm_change(self, model: activation_pb2.Model, edits: Sequence[Edit], probes: Probes) -> float:
        """Largest L2 change of an edited layer's pooled activation relative to its mean norm.

        Features count by what they change in the layer that their dictionary is on.
        """
        images, _ = await asyncio.to_thread(probes.images, None)
        layers = sorted({base_layer(edit.layer) for edit in edits})
        before = await self._measure(model.name, images, (), layers)
        return norm_change(before, await self._measure(model.name, images, edits, layers))

    async def _named_target(self, labels: list[str], concept: str, target_label: str) -> int | None:
        if target_label:
            if target_label not in labels:
                text = f"target_label: {target_label[:80]!r} is not a label of the model; GetModel lists them."
                raise InvalidInput(text, field="target_label", allowed="a label of the model")
            return labels.index(target_label)
        return await self._nearest(labels, concept) if concept else None

    async def _most_changed(self, model: str, edits: Sequence[Edit], probes: Probes) -> int:
        """The label whose probability changes most on the images that show it."""
        images, shown = await asyncio.to_thread(probes.images, None)
        before = await self._measure(model, images, (), ())
        after = await self._measure(model, images, edits, ())
        return effect_of(before, after, shown_labels(shown, before)).most_changed()

    async def _nearest(self, labels: list[str], concept: str) -> int:
        if concept in labels:
            return labels.index(concept)
        vectors, _ = await embed_texts(self._aligner, [concept, *labels], self._max_texts)
        return int(np.argmax(vectors[1:] @ vectors[0]))

    async def _measure(
        self, model: str, images: Sequence[bytes], edits: Sequence[Edit], layers: Sequence[str]
    ) -> Measured:
        model_id = parse_model(model).model
        try:
            captured = await capture(self._activation, model_id, images, layers, at_once=self._max_images, edits=edits)
        except InvalidInput as error:
            if error.field == "edits":  # of a request that our client knows nothing of
                error.rename("policy")
            raise
        return Measured(softmax(captured.logits), captured.activations)

    async def _units(
        self,
        model: activation_pb2.Model,
        edits: Sequence[Edit],
        images: Sequence[bytes],
        target: int,
        before: Measured,
        after: Measured,
    ) -> tuple[UnitReceipt, ...]:
        """What each edited unit does alone."""
        units = list(dict.fromkeys((edit.layer, edit.unit) for edit in edits))
        shown = images[: max(1, _UNIT_ROWS // len(units))]
        base = (await self._measure(model.name, shown, (), ())).probabilities[:, target]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def alone(layer: str, unit: int) -> UnitReceipt:
            own = [edit for edit in edits if (edit.layer, edit.unit) == (layer, unit)]
            async with gate:
                steered = await self._measure(model.name, shown, own, ())
            return UnitReceipt(
                unit=str(UnitName(parse_model(model.name).model, layer, unit)),
                mean_before=float(before.activations[layer][:, unit].mean()),
                mean_after=float(after.activations[layer][:, unit].mean()),
                target_change=float((steered.probabilities[:, target] - base).mean()),
            )

        return tuple(await asyncio.gather(*(alone(layer, unit) for layer, unit in units)))


def _layer_sizes(model: activation_pb2.Model) -> dict[str, int]:
    return {parse_layer(layer.name).layer: layer.units for layer in model.layers}
