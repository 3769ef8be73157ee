"""From the policy that a client sent to the edits that are made."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format

from miclip.errors import InvalidInput, MiclipError, NotFound
from miclip.names import UnitName, check_id, is_dictionary_layer, parse_layer, parse_model, parse_unit
from miclip.settings import Settings
from miclip.steering.edits import Edit, Op
from miclip.v1 import activation_pb2, resources_pb2, retrieval_pb2
from miclip.v1 import steering_pb2 as pb
from services.rpc import Peer, check_range, check_text
from services.wire import edits as wire
from services.wire.top_k import requested_top_k

_MAX_TTL_S = 365 * 24 * 3600
_MAX_NORM = 1000.0


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
            raise InvalidInput(f"{field} says not what to do.", field=field, allowed="one of concept, edits")
        asked = pb.Policy()
        getattr(asked, kind).CopyFrom(getattr(message, kind))
        if kind == "concept":
            edits = await self._of_concept(asked.concept, message.model, f"{field}.concept")
        else:
            edits = await self._by_hand(message.edits.edits, model, f"{field}.edits.edits")
        return {
            "model": parse_model(message.model).model,
            "edits": edits,
            "concept": message.concept.text.strip() if kind == "concept" else "",
            "asked": json_format.MessageToJson(asked, indent=None),
            "description": self._text(message.description, f"{field}.description", empty=True),
            "ttl_seconds": check_range(message.ttl_seconds, f"{field}.ttl_seconds", 0, _MAX_TTL_S),
            "traffic_share": _share(message, f"{field}.traffic_share"),
            "norm_limit": _number(message.norm_limit, f"{field}.norm_limit", 0, _MAX_NORM),
        }

    async def _of_concept(self, concept: pb.ConceptSteering, model: str, field: str) -> tuple[Edit, ...]:
        """The edits of a concept, whose evidence is set in place."""
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
        concept.ClearField("evidence")  # a client's own is no evidence
        if found.HasField("evidence"):
            concept.evidence.CopyFrom(found.evidence)
        units = [parse_unit(located.unit) for located in found.units]
        if concept.reconstruct:
            _check_features(units, f"{field}.reconstruct")
        return tuple(Edit(unit.layer, unit.unit, Op.SCALE, scale, concept.reconstruct) for unit in units)

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
        relative = {(parse_layer(m.layer).layer, m.unit) for m in messages if m.relative_to_max}
        maxima = {}
        for layer, unit in sorted(relative):
            name = str(UnitName(model, layer, unit))
            answer = await self._retrieval.call("GetUnit", retrieval_pb2.GetUnitRequest(name=name))
            maxima[layer, unit] = float(answer.unit.maximum)
        return maxima

    def _text(self, text: str, field: str, *, empty: bool = False) -> str:
        return check_text(text, field, self._settings.max_text_chars, empty=empty)


def _check_features(units: Sequence[UnitName], field: str) -> None:
    for unit in units:
        if not is_dictionary_layer(unit.layer):
            text = (
                f"{field}: unit {unit.unit} of {unit.layer!r}, which the concept was resolved to, is a neuron; only "
                "features of a dictionary are reconstructed from. Name dictionaries in layers."
            )
            raise InvalidInput(text, field=field, allowed="false unless all layers are dictionaries")


def _own_field(theirs: str, field: str) -> str:
    """Path in the policy of what LocalizeConcepts calls ``theirs``."""
    if theirs == "model" or not theirs:
        return theirs
    return f"{field}.text" if theirs.startswith("texts") else f"{field}.{theirs}"


def policy_id(asked: str) -> str:
    """The id asked for, or a new one; raises InvalidInput."""
    return check_id(asked, field="policy_id") if asked else f"p-{secrets.token_hex(4)}"


def _share(message: pb.Policy, field: str) -> float:
    if not message.HasField("traffic_share"):
        return 1.0
    share = message.traffic_share
    if not 0 < share <= 1:  # also refuses NaN
        raise InvalidInput(f"{field} is {share:g}; allowed is above 0 to 1.", field=field, allowed="above 0 to 1")
    return share


def _number(value: float, field: str, low: float, high: float) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        allowed = f"{low:g} to {high:g}"
        raise InvalidInput(f"{field} is {value:g}; allowed is {allowed}.", field=field, allowed=allowed)
    return value
