"""From the policy that a client sent to the edits that are made."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Sequence
from typing import Any

from miclip.errors import InvalidInput, MiclipError, NotFound
from miclip.names import LayerName, check_id, parse_layer, parse_model, parse_unit
from miclip.settings import Settings
from miclip.steering.edits import Edit
from miclip.steering.policy import ConceptSteering, Conditions, by_hand
from miclip.steering.resolution import concept_edits
from miclip.v1 import activation_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as pb
from miclip.wire.common import read_evidence
from miclip.wire.edits import read_edits
from miclip.wire.policies import read_concept, read_conditions
from services.rpc import Peer, check_text
from services.wire import edits as wire
from services.wire.top_k import requested_top_k


class Resolver:
    """Validates policies and turns concepts into units, by asking the other services.

    Args:
        activation: Knows models, layers and units.
        retrieval: Finds the units of a concept.
        settings: Limits.
    """

    def __init__(self, activation: Peer, retrieval: Peer, settings: Settings) -> None:
        self._activation, self._retrieval, self._settings = activation, retrieval, settings

    async def model(self, name: str, field: str) -> activation_pb2.Model:
        """A model with its layers and labels; raises InvalidInput or NotFound naming ``field``."""
        parse_model(name, field=field)
        try:
            response = await self._activation.call("GetModel", activation_pb2.GetModelRequest(name=name))
        except NotFound as error:
            error.rename(field)
            raise
        model: activation_pb2.Model = response.model
        return model

    async def fields(self, message: pb.Policy, field: str) -> dict[str, Any]:
        """The fields of a stored policy: all that the client decides, checked, and the resolved edits."""
        model = await self.model(message.model, f"{field}.model")
        kind = message.WhichOneof("steering")
        if kind is None:
            raise InvalidInput(
                f"{field} has no steering; set concept or edits.", field=field, allowed="one of concept, edits"
            )
        if kind == "concept":
            concept, edits = await self._of_concept(message.concept, message.model, f"{field}.concept")
            steering: dict[str, Any] = {"concept": concept, "requested": (), "edits": edits}
        else:
            edits = await self._by_hand(message.edits.edits, model, f"{field}.edits.edits")
            steering = {"concept": None, "requested": (), **by_hand(read_edits(message.edits.edits)), "edits": edits}
        self._text(message.description, f"{field}.description", empty=True)
        conditions = Conditions.checked(read_conditions(message), field)
        return {"model": parse_model(message.model).model, **steering, **dict(conditions)}

    async def _of_concept(
        self, concept: pb.ConceptSteering, model: str, field: str
    ) -> tuple[ConceptSteering, tuple[Edit, ...]]:
        """A concept with the evidence for its units, and its edits."""
        text = self._text(concept.text, f"{field}.text")
        if not concept.HasField("scale"):
            raise InvalidInput(f"{field}.scale is required.", field=f"{field}.scale", allowed="0 removes, 2 doubles")
        bound = self._settings.max_strength
        scale = _number(concept.scale, f"{field}.scale", -bound, bound)
        limit = min(self._settings.max_edits, self._settings.max_top_k)
        top_k = requested_top_k(concept, limit, field=f"{field}.top_k")
        request = retrieval_pb2.LocalizeConceptsRequest(
            model=model, texts=[text], layers=concept.layers, top_k=top_k, method=concept.method
        )
        try:
            answer = await self._retrieval.call("LocalizeConcepts", request)
        except MiclipError as error:
            error.rename(_own_field(error.field, field))
            raise
        (found,) = answer.localizations
        evidence = read_evidence(found.evidence) if found.HasField("evidence") else None  # a client's own is none
        units = [parse_unit(located.unit) for located in found.units]
        edits = concept_edits(units, scale, concept.reconstruct, f"{field}.reconstruct")
        return read_concept(concept).model_copy(update={"evidence": evidence}), edits

    async def _by_hand(
        self, messages: Sequence[resources_pb2.Edit], model: activation_pb2.Model, field: str
    ) -> tuple[Edit, ...]:
        if not messages:
            allowed = f"1 to {self._settings.max_edits} entries"
            raise InvalidInput(f"{field} is empty; allowed is {allowed}.", field=field, allowed=allowed)
        name = parse_model(model.name).model
        sizes = {parse_layer(layer.name).layer: layer.units for layer in model.layers}
        wire.to_edits(messages, name, sizes, lambda _layer, _unit: 1.0, field=field)
        maxima = await self._maxima(name, messages)
        return wire.to_edits(messages, name, sizes, lambda layer, unit: maxima[layer, unit], field=field)

    async def _maxima(self, model: str, messages: Sequence[resources_pb2.Edit]) -> dict[tuple[str, int], float]:
        """Maxima of the units that edits are relative to, by layer and unit; one call a layer and page of its units."""
        last: dict[str, int] = {}
        for message in messages:
            if message.relative_to_max:
                layer = parse_layer(message.layer).layer
                last[layer] = max(message.unit, last.get(layer, 0))
        per_layer = await asyncio.gather(*(self._layer_maxima(model, *entry) for entry in last.items()))
        return {key: value for maxima in per_layer for key, value in maxima.items()}

    async def _layer_maxima(self, model: str, layer: str, last: int) -> dict[tuple[str, int], float]:
        """Maxima of the units of a layer, at least as far as the unit ``last``."""
        request = retrieval_pb2.ListUnitsRequest(
            parent=str(LayerName(model, layer)), page_size=min(last + 1, self._settings.max_page_size)
        )
        maxima: dict[tuple[str, int], float] = {}
        while len(maxima) <= last:
            answer = await self._retrieval.call("ListUnits", request)
            maxima |= {(layer, parse_unit(unit.name).unit): float(unit.maximum) for unit in answer.units}
            request.page_token = answer.next_page_token
        return maxima

    def _text(self, text: str, field: str, *, empty: bool = False) -> str:
        return check_text(text, field, self._settings.max_text_chars, empty=empty)


def _own_field(theirs: str, field: str) -> str:
    """Path in the policy of what LocalizeConcepts calls ``theirs``."""
    if theirs == "model" or not theirs:
        return theirs
    return f"{field}.text" if theirs.startswith("texts") else f"{field}.{theirs}"


def policy_id(asked: str) -> str:
    """The id asked for, or a new one; raises InvalidInput."""
    return check_id(asked, field="policy_id") if asked else f"p-{secrets.token_hex(4)}"


def _number(value: float, field: str, low: float, high: float) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        allowed = f"{low:g} to {high:g}"
        raise InvalidInput(f"{field} is {value:g}; allowed is {allowed}.", field=field, allowed=allowed)
    return value
