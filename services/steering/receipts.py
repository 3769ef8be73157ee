"""Receipts: what a policy does to its target, to everything else, and what as many random units would have done.

All figures are measured by the activation service on images, through the RPC that clients use.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.errors import InvalidInput
from miclip.names import LayerName, UnitName, base_layer, is_dictionary_layer, parse_layer, parse_model
from miclip.steering.edits import Edit, fingerprint
from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2
from miclip.v1 import steering_pb2 as pb
from services.rpc import Peer
from services.steering.probes import Probes
from services.wire import edits as wire

_RANDOM_DRAWS = 3
_UNIT_ROWS = 512
"""Images that all single-unit measurements of a receipt may take together."""
_AT_ONCE = 8
_LOGITS = "logits"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """Outputs on the images.

    Attributes:
        probabilities: ``[N, K]``.
        activations: Pooled ``[N, d]`` by captured layer: those edited, and of features the layer they are on.
    """

    probabilities: Array
    activations: Mapping[str, Array]


@dataclass(frozen=True)
class Effect:
    """Mean change of each label's probability over the images that show it, NaN where none does: ``[K]``."""

    by_label: Array

    def target(self, label: int) -> float:
        """Change of the target."""
        return float(self.by_label[label])

    def others(self, label: int) -> Array:
        """Changes of the other labels that images show."""
        rest = np.delete(self.by_label, label)
        return rest[~np.isnan(rest)]


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
    ) -> pb.Receipt:
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
        layers = _measured_layers(edits)
        target = await self._named_target(labels, concept, target_label)
        if target is None:
            target = await self._most_changed(model.name, edits, probes)
        images, shown = await asyncio.to_thread(probes.images, target)
        before = await self._measure(model.name, images, (), layers)
        after = await self._measure(model.name, images, edits, layers)
        shows = _shows(shown, before)
        effect = _effect(before, after, shows)
        on_target = [image for image, label in zip(images, shows, strict=True) if label == target]
        if not on_target:
            text = f"No image shows {labels[target]!r}; send images that do, or name another target_label."
            raise InvalidInput(text, field="images", allowed=f"images of which one shows {labels[target]!r}")
        control = [
            _effect(before, await self._measure(model.name, images, drawn, layers), shows)
            for drawn in _random_edits(edits, model, before)
        ]
        return pb.Receipt(
            target_label=labels[target],
            target_change=effect.target(target),
            off_target_change=_mean(effect.others(target)),
            specificity=_specificity(effect, target),
            random_target_change=float(np.mean([each.target(target) for each in control])),
            random_off_target_change=float(np.mean([_mean(each.others(target)) for each in control])),
            norm_change=_norm_change(before, after),
            units=await self._units(model, edits, on_target, target, before, after),
            images=len(images),
            target_images=len(on_target),
            seconds=time.perf_counter() - started,
        )

    async def norm_change(self, model: activation_pb2.Model, edits: Sequence[Edit], probes: Probes) -> float:
        """Largest L2 change of an edited layer's pooled activation relative to its mean norm.

        Features count by what they change in the layer that their dictionary is on.
        """
        images, _ = await asyncio.to_thread(probes.images, None)
        layers = sorted({base_layer(edit.layer) for edit in edits})
        before = await self._measure(model.name, images, (), layers)
        return _norm_change(before, await self._measure(model.name, images, edits, layers))

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
        return int(np.nanargmax(np.abs(_effect(before, after, _shows(shown, before)).by_label)))

    async def _nearest(self, labels: list[str], concept: str) -> int:
        if concept in labels:
            return labels.index(concept)
        texts = [concept, *labels]
        vectors: list[Sequence[float]] = []
        for start in range(0, len(texts), self._max_texts):
            request = aligner_pb2.EmbedTextsRequest(texts=texts[start : start + self._max_texts])
            answer = await self._aligner.call("EmbedTexts", request)
            vectors.extend(embedding.values for embedding in answer.embeddings)
        array = np.asarray(vectors, dtype=np.float32)
        return int(np.argmax(array[1:] @ array[0]))

    async def _measure(
        self, model: str, images: Sequence[bytes], edits: Sequence[Edit], layers: Sequence[str]
    ) -> Measured:
        model_id = parse_model(model).model
        wanted = list(dict.fromkeys([*layers, _LOGITS]))
        messages = [wire.from_edit(edit, model_id) for edit in edits]
        results: list[activation_pb2.ImageActivations] = []
        for start in range(0, len(images), self._max_images):
            request = activation_pb2.CaptureActivationsRequest(
                model=model,
                images=images[start : start + self._max_images],
                layers=[str(LayerName(model_id, layer)) for layer in wanted],
                edits=resources_pb2.EditList(edits=messages),
            )
            results.extend((await self._capture(request)).results)
        stacked = {
            layer: np.asarray([result.layers[i].values for result in results], dtype=np.float32)
            for i, layer in enumerate(wanted)
        }
        return Measured(_softmax(stacked[_LOGITS]), {layer: stacked[layer] for layer in layers})

    async def _capture(self, request: activation_pb2.CaptureActivationsRequest) -> Any:
        try:
            return await self._activation.call("CaptureActivations", request)
        except InvalidInput as error:
            if error.field == "edits":  # of a request that our client knows nothing of
                error.rename("policy")
            raise

    async def _units(
        self,
        model: activation_pb2.Model,
        edits: Sequence[Edit],
        images: Sequence[bytes],
        target: int,
        before: Measured,
        after: Measured,
    ) -> list[pb.UnitReceipt]:
        """What each edited unit does alone."""
        units = list(dict.fromkeys((edit.layer, edit.unit) for edit in edits))
        shown = images[: max(1, _UNIT_ROWS // len(units))]
        base = (await self._measure(model.name, shown, (), ())).probabilities[:, target]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def alone(layer: str, unit: int) -> pb.UnitReceipt:
            own = [edit for edit in edits if (edit.layer, edit.unit) == (layer, unit)]
            async with gate:
                steered = await self._measure(model.name, shown, own, ())
            return pb.UnitReceipt(
                unit=str(UnitName(parse_model(model.name).model, layer, unit)),
                mean_before=float(before.activations[layer][:, unit].mean()),
                mean_after=float(after.activations[layer][:, unit].mean()),
                target_change=float((steered.probabilities[:, target] - base).mean()),
            )

        return [*await asyncio.gather(*(alone(layer, unit) for layer, unit in units))]


def _shows(shown: Sequence[int] | None, before: Measured) -> NDArray[np.int64]:
    """The label that each image shows: as known, else as the unsteered model says."""
    return np.asarray(shown) if shown is not None else before.probabilities.argmax(axis=1)


def _effect(before: Measured, after: Measured, shows: NDArray[np.int64]) -> Effect:
    rows = np.arange(len(shows))
    change = after.probabilities[rows, shows] - before.probabilities[rows, shows]
    labels = before.probabilities.shape[1]
    counts = np.bincount(shows, minlength=labels)
    sums = np.bincount(shows, weights=change, minlength=labels)
    by_label = np.full(labels, np.nan, dtype=np.float32)
    by_label[counts > 0] = sums[counts > 0] / counts[counts > 0]
    return Effect(by_label)


def _measured_layers(edits: Sequence[Edit]) -> list[str]:
    """The edited layers, and those that the dictionaries among them are on: there is what the model sees of an edit."""
    return sorted({name for edit in edits for name in (edit.layer, base_layer(edit.layer))})


def _random_edits(edits: Sequence[Edit], model: activation_pb2.Model, before: Measured) -> list[list[Edit]]:
    """The same operations on other units of the same layers, drawn the same way for the same edits.

    Features that are 0 on all images are left out: most scalings of them do nothing, which would flatter the policy.
    """
    draw = random.Random(fingerprint(edits))
    sizes = {parse_layer(layer.name).layer: layer.units for layer in model.layers}
    edited = {layer: {edit.unit for edit in edits if edit.layer == layer} for layer in {e.layer for e in edits}}
    draws = []
    for _ in range(_RANDOM_DRAWS):
        chosen: dict[tuple[str, int], int] = {}
        for layer, units in sorted(edited.items()):
            every = list(range(sizes[layer]))
            drawable = _live(before.activations[layer]) if is_dictionary_layer(layer) else every
            others = [unit for unit in drawable if unit not in units]
            pool = others if len(others) >= len(units) else every
            for unit, other in zip(sorted(units), draw.sample(pool, len(units)), strict=True):
                chosen[layer, unit] = other
        draws.append([replace(edit, unit=chosen[edit.layer, edit.unit]) for edit in edits])
    return draws


def _live(activations: Array) -> list[int]:
    """Units that are not 0 on all images."""
    return [int(unit) for unit in np.flatnonzero(activations.any(axis=0))]


def _specificity(effect: Effect, target: int) -> float:
    others = np.abs(effect.others(target))
    return 1 - _mean(others) / max(abs(effect.target(target)), 1e-6)


def _norm_change(before: Measured, after: Measured) -> float:
    changes = []
    for layer, values in before.activations.items():
        if is_dictionary_layer(layer):
            continue  # its codes are no part of what the model sees
        typical = float(np.linalg.norm(values, axis=1).mean())
        largest = float(np.linalg.norm(after.activations[layer] - values, axis=1).max())
        changes.append(largest / max(typical, 1e-12))
    return max(changes, default=0.0)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return result
