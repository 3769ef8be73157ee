"""Receipts: what a policy does to its target, to everything else, and what as many random units would have done.

All figures are measured by the activation service on images, through the RPC that clients use.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.errors import InvalidInput
from miclip.models.predictions import softmax
from miclip.names import UnitName, base_layer, parse_layer, parse_model
from miclip.steering.edits import Edit
from miclip.steering.effects import (
    Measured,
    Target,
    effect_of,
    measured_layers,
    norm_change,
    random_edits,
    shown_labels,
    shown_target,
)
from miclip.steering.policy import ConceptSteering
from miclip.steering.receipt import Receipt, TargetLabel, UnitReceipt
from miclip.v1 import activation_pb2
from services.rpc import Peer
from services.steering.atlas_probes import spread
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
        self,
        model: activation_pb2.Model,
        edits: Sequence[Edit],
        probes: Probes,
        *,
        concept: ConceptSteering | None,
        target_label: str,
    ) -> Receipt:
        """Measure edits on images.

        Args:
            model: The model with labels and layers.
            edits: Validated edits.
            probes: Images, and which label each shows where that is known.
            concept: What the edits were found by; None for edits by hand.
            target_label: Label that counts as target; empty to choose it: that of the concept's text, else those that
                the concept's evidence covers.

        Raises:
            InvalidInput: the label does not exist, or no image counts as showing it.
        """
        started = time.perf_counter()
        labels = list(model.labels)
        layers = measured_layers(edits)
        asked = await self._named_target(labels, concept, target_label)
        if not asked:
            asked = {await self._most_changed(model.name, edits, probes): 1.0}
        images, shown = await asyncio.to_thread(probes.images, asked)
        before = await self._measure(model.name, images, (), layers)
        after = await self._measure(model.name, images, edits, layers)
        shows = shown_labels(shown, before)
        target = shown_target(asked, shows)
        if not target:
            raise _not_shown([labels[label] for label in asked], [labels[label] for label in shows], shown is not None)
        effect = effect_of(before, after, shows, target)
        control = [
            effect_of(before, await self._measure(model.name, images, drawn, layers), shows, target)
            for drawn in random_edits(edits, _layer_sizes(model), before)
        ]
        return Receipt(
            target_label=labels[next(iter(target))],
            target_change=effect.target(target),
            off_target_change=effect.mean_of_others(target),
            specificity=effect.specificity(target),
            random_target_change=float(np.mean([each.target(target) for each in control])),
            random_off_target_change=float(np.mean([each.mean_of_others(target) for each in control])),
            norm_change=norm_change(before, after),
            units=await self._units(model, edits, images, shows, target, before, after),
            images=len(images),
            target_images=int(np.isin(shows, list(target)).sum()),
            seconds=time.perf_counter() - started,
            targets=tuple(
                TargetLabel(labels[label], share, int((shows == label).sum()), float(effect.by_label[label]))
                for label, share in target.items()
            ),
            measured_on=probes.source(asked),
        )

    async def norm_change(self, model: activation_pb2.Model, edits: Sequence[Edit], probes: Probes) -> float:
        """Largest L2 change of an edited layer's pooled activation relative to its mean norm.

        Features count by what they change in the layer that their dictionary is on.
        """
        images, _ = await asyncio.to_thread(probes.images, ())
        layers = sorted({base_layer(edit.layer) for edit in edits})
        before = await self._measure(model.name, images, (), layers)
        return norm_change(before, await self._measure(model.name, images, edits, layers))

    async def _named_target(
        self, labels: list[str], concept: ConceptSteering | None, target_label: str
    ) -> dict[int, float]:
        """The labels that count as target by their shares; none where only a measurement can tell."""
        if target_label:
            if target_label not in labels:
                text = f"target_label: {target_label[:80]!r} is not a label of the model; GetModel lists them."
                raise InvalidInput(text, field="target_label", allowed="a label of the model")
            return {labels.index(target_label): 1.0}
        if concept is None:
            return {}
        text = concept.text.strip()
        covered = concept.evidence.covered() if concept.evidence and text not in labels else ()
        return {labels.index(one.label): one.share for one in covered if one.label in labels} or {
            await self._nearest(labels, text): 1.0
        }

    async def _most_changed(self, model: str, edits: Sequence[Edit], probes: Probes) -> int:
        """The label whose probability changes most on the images that show it."""
        images, shown = await asyncio.to_thread(probes.images, ())
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
        shows: NDArray[np.int64],
        target: Target,
        before: Measured,
        after: Measured,
    ) -> tuple[UnitReceipt, ...]:
        """What each edited unit does alone, on images of the target."""
        units = list(dict.fromkeys((edit.layer, edit.unit) for edit in edits))
        rows = spread(np.flatnonzero(np.isin(shows, list(target))), max(1, _UNIT_ROWS // len(units)))
        shown, shares = [images[row] for row in rows], shown_target(target, shows[rows])
        base = await self._measure(model.name, shown, (), ())
        gate = asyncio.Semaphore(_AT_ONCE)

        async def alone(layer: str, unit: int) -> UnitReceipt:
            own = [edit for edit in edits if (edit.layer, edit.unit) == (layer, unit)]
            async with gate:
                steered = await self._measure(model.name, shown, own, ())
            return UnitReceipt(
                unit=str(UnitName(parse_model(model.name).model, layer, unit)),
                mean_before=float(before.activations[layer][:, unit].mean()),
                mean_after=float(after.activations[layer][:, unit].mean()),
                target_change=effect_of(base, steered, shows[rows], target).target(shares),
            )

        return tuple(await asyncio.gather(*(alone(layer, unit) for layer, unit in units)))


def _not_shown(wanted: Sequence[str], seen: Sequence[str], known: bool) -> InvalidInput:
    """Say that nothing can be measured: what the images show is ``known``, or is what the model takes them for."""
    names = " or ".join(map(repr, wanted))
    if known:
        text = f"The server has no image of {names} to measure on. Send images, or name another target_label."
    else:
        most = ", ".join(f"{label!r} ({count})" for label, count in Counter(seen).most_common(3))
        text = (
            f"The model takes none of the images for {names}, but for {most}. Send images that it takes for {names}, "
            "or name one of these labels as target_label."
        )
    return InvalidInput(text, field="images", allowed=f"images of which the model takes one for {names}")


def _layer_sizes(model: activation_pb2.Model) -> dict[str, int]:
    return {parse_layer(layer.name).layer: layer.units for layer in model.layers}
