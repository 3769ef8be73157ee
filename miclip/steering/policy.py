"""A policy: named, versioned edits of one model, as the plain value that store, client and command line share."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, computed_field

from miclip.errors import BadArtefact, InvalidInput
from miclip.evidence import Evidence
from miclip.kinds import LocalizationMethod
from miclip.steering.edits import Edit, fingerprint

_MAX_TTL_S = 365 * 24 * 3600
_MAX_NORM = 1000.0


def _new_etag() -> str:
    return secrets.token_hex(8)


@dataclass(frozen=True)
class RequestedEdit(Edit):
    """An edit as it is asked for.

    Attributes:
        relative_to_max: Whether ``value`` is a multiple of the unit's maximum over the probe images; only for ``ADD``
            and ``CLAMP``.
    """

    relative_to_max: bool = False


class ConceptSteering(BaseModel):
    """Steering by a concept, whose strongest units are scaled.

    Attributes:
        text: The concept.
        scale: Factor of every unit; 0 removes the concept, above 1 strengthens it. Required.
        top_k: Number of units; ``None`` is the server's default, 5.
        layers: Plain names of the layers to choose units from; empty is the default of a localisation.
        method: How units are ranked; ``None`` is the default, ``attribution``.
        reconstruct: Of features: see ``Edit.reconstruct``.
        evidence: How far the units found are to be trusted; set by the server.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    scale: float | None = None
    top_k: int | None = Field(default=None, ge=0)
    layers: tuple[str, ...] = ()
    method: LocalizationMethod | None = None
    reconstruct: bool = False
    evidence: Evidence | None = None


class Conditions(BaseModel):
    """When, for which requests and how far a policy steers: all that its author chooses beside what it does.

    A condition is added here, in the message ``Policy`` under the same name, and in ``miclip.steering.decision``.

    Attributes:
        ttl_seconds: How long it lives after its last change; 0 means for ever.
        traffic_share: Share of requests it applies to, above 0 to 1, chosen by a hash of the request id.
        norm_limit: Largest L2 norm of the change of a layer's pooled activation, relative to the activation's typical
            norm; 0 means no limit.
        description: What it is for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttl_seconds: float = Field(default=0, ge=0, le=_MAX_TTL_S, allow_inf_nan=False)
    traffic_share: float = Field(default=1.0, gt=0, le=1)
    norm_limit: float = Field(default=0.0, ge=0, le=_MAX_NORM, allow_inf_nan=False)
    description: str = ""

    @classmethod
    def checked(cls, values: dict[str, Any], field: str) -> Self:
        """Return the conditions of these values.

        Raises:
            InvalidInput: one is out of range; the field is ``{field}.{name}``.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise invalid(cls, error, field) from None


class Policy(Conditions):
    """Edits that apply to a share of a model's requests for some time.

    Attributes:
        policy_id: Last segment of its name, ``policies/{policy_id}``; empty of one that is not stored.
        model: Id of the model it steers.
        concept: What the edits were found by; ``None`` when the units were chosen by hand.
        requested: The edits by hand as they were asked for, where any of them is relative; otherwise empty.
        edits: The edits that are made, in order; empty while a server has not resolved them.
        version: Counts up from 1 with every change.
        etag: Changes with every version; a writer must send the one it read.
        create_time: When it was made.
        update_time: When it was last changed.
        created_by: Id of the API key that last wrote it, never the key.
    """

    policy_id: str = ""
    model: str
    concept: ConceptSteering | None = None
    requested: tuple[RequestedEdit, ...] = ()
    edits: tuple[Edit, ...] = ()
    version: int = Field(default=1, ge=1)
    etag: str = Field(default_factory=_new_etag)
    create_time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    update_time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    created_by: str = ""

    def replaced(self, **fields: object) -> Self:
        """Return a copy with other values in ``fields``, for a client to send as an update.

        Raises:
            ValidationError: a value is out of range.
        """
        return type(self).model_validate({**dict(self), **fields})

    def changed(self, **fields: object) -> Self:
        """Return the next version with other values in ``fields``, a new etag and ``update_time`` of now.

        Raises:
            ValidationError: a value is out of range.
        """
        now = datetime.now(UTC)
        return self.replaced(**{**fields, "version": self.version + 1, "etag": _new_etag(), "update_time": now})

    @property
    def name(self) -> str:
        """Its full name, ``policies/{policy_id}``."""
        return f"policies/{self.policy_id}"

    @computed_field  # type: ignore[prop-decorator]  # shown to people, beside the stored fields
    @property
    def expire_time(self) -> datetime | None:
        """When it stops applying; ``None`` means never."""
        return self.update_time + timedelta(seconds=self.ttl_seconds) if self.ttl_seconds else None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the edits; see ``miclip.steering.edits.fingerprint``."""
        return fingerprint(self.edits)

    def expired(self, now: datetime | None = None) -> bool:
        """Whether its time is over."""
        end = self.expire_time
        return end is not None and (now or datetime.now(UTC)) >= end

    def applies_to(self, request_id: str) -> bool:
        """Whether the request is in the policy's traffic share; the same request always gets the same answer.

        Each policy hashes differently, so that two policies of share 0.1 do not meet the same tenth of the requests.
        """
        if self.traffic_share == 1:
            return True
        digest = hashlib.sha256(f"{self.policy_id}\0{request_id}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.traffic_share * 2**64

    def to_json(self) -> str:
        """Return the policy as JSON."""
        return self.model_dump_json(exclude={"expire_time"})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse ``to_json``'s result; raises BadArtefact."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadArtefact("A stored policy is broken or newer than this program.") from error


def make_policy(
    *,
    model: str,
    concept: str = "",
    edits: Sequence[Edit] | None = None,
    scale: float | None = None,
    top_k: int | None = None,
    layers: Sequence[str] = (),
    method: str | None = None,
    reconstruct: bool = False,
    **conditions: Any,
) -> Policy:
    """Make a policy, to create or preview. Nothing is sent.

    Args:
        model: Target model.
        concept: Steer the strongest units of this concept; either this or ``edits``.
        edits: Edits chosen by hand; a ``RequestedEdit`` may be relative to its unit's maximum.
        scale: Factor of the concept's units; required with ``concept``.
        top_k: Number of the concept's units; default 5.
        layers: Layers to choose the concept's units from; default as ``localize``.
        method: How the concept's units are ranked; default ``attribution``.
        reconstruct: Of a concept's features: see ``Edit.reconstruct``, which says the same of one edit.
        conditions: Fields of ``Conditions``: ``ttl_seconds``, ``traffic_share``, ``norm_limit``, ``description``.

    Raises:
        InvalidInput: both or none of ``concept`` and ``edits``, a concept's choices beside ``edits``, or a condition
            that does not exist or is out of range.
    """
    if bool(concept) == (edits is not None):
        raise InvalidInput("Give either a concept or edits.", field="policy.concept")
    if not concept and (scale is not None or top_k is not None or layers or method is not None or reconstruct):
        text = "scale, top_k, layers, method and reconstruct go with a concept."
        raise InvalidInput(text, field="policy.edits")
    steering: dict[str, Any] = by_hand(edits or ())
    if concept:
        where = (layers,) if isinstance(layers, str) else tuple(layers)
        chosen = {"text": concept, "scale": scale, "top_k": top_k, "layers": where, "method": method}
        steering = {"concept": {**chosen, "reconstruct": reconstruct}}
    try:
        return Policy.model_validate({"model": model.removeprefix("models/"), **steering, **conditions})
    except ValidationError as error:
        raise invalid(Policy, error, "policy") from None


def by_hand(edits: Sequence[Edit]) -> dict[str, tuple[Edit, ...]]:
    """Return the fields of a policy that hold edits as they are asked for: ``requested`` where any is relative."""
    if any(isinstance(edit, RequestedEdit) and edit.relative_to_max for edit in edits):
        return {"requested": tuple(RequestedEdit(**vars(edit)) for edit in edits)}
    return {"edits": tuple(Edit(edit.layer, edit.unit, edit.op, edit.value, edit.reconstruct) for edit in edits)}


def invalid(kind: type[BaseModel], error: ValidationError, field: str) -> InvalidInput:
    """Say what is wrong with the first value that ``kind`` refuses: its field, its value and the allowed range."""
    problem = error.errors()[0]
    name, value = ".".join(map(str, problem["loc"])), problem["input"]
    allowed = _range(kind, name) or str(problem["msg"])
    shown = f"{value:.12g}" if isinstance(value, int | float) else repr(value)[:80]
    return InvalidInput(f"{field}.{name} is {shown}; allowed is {allowed}.", field=f"{field}.{name}", allowed=allowed)


def _range(kind: type[BaseModel], name: str) -> str:
    """The range of a number in words; empty of anything else."""
    info = kind.model_fields.get(name)
    bounds = {key: value for part in (info.metadata if info else ()) for key, value in _bounds(part).items()}
    if "le" not in bounds:
        return ""
    low = f"above {bounds['gt']:.12g}" if "gt" in bounds else f"{bounds.get('ge', 0):.12g}"
    return f"{low} to {bounds['le']:.12g}"


def _bounds(constraint: object) -> dict[str, Any]:
    return {key: getattr(constraint, key) for key in ("ge", "gt", "le", "lt") if hasattr(constraint, key)}
