"""A policy: named, versioned edits of one model, as plain values."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from miclip.errors import BadArtefact
from miclip.steering.edits import Edit, fingerprint


def _new_etag() -> str:
    return secrets.token_hex(8)


class Policy(BaseModel):
    """Edits that apply to a share of a model's requests for some time.

    Attributes:
        policy_id: Last segment of its name, ``policies/{policy_id}``.
        model: Id of the model it steers.
        edits: Applied in order.
        concept: The text the edits were localized from; empty when the units were chosen by hand.
        description: What it is for.
        version: Counts up from 1 with every change.
        etag: Changes with every version; a writer must send the one it read.
        ttl_seconds: How long it lives after its last change; 0 means for ever.
        traffic_share: Share of requests it applies to, above 0 to 1, chosen by a hash of the request id.
        norm_limit: Largest L2 norm of the change of a layer's pooled activation, relative to the activation's typical
            norm; 0 means no limit.
        created_by: Id of the API key that made it, never the key.
        created_at: When it was made.
        updated_at: When it was last changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_id: str
    model: str
    edits: tuple[Edit, ...] = ()
    concept: str = ""
    description: str = ""
    version: int = Field(default=1, ge=1)
    etag: str = Field(default_factory=_new_etag)
    ttl_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    traffic_share: float = Field(default=1.0, gt=0, le=1)
    norm_limit: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    created_by: str = ""
    created_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    updated_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    def changed(self, **fields: object) -> Self:
        """Return the next version with other values in ``fields``, a new etag and ``updated_at`` of now.

        Raises:
            ValidationError: a value is out of range.
        """
        now = datetime.now(UTC)
        fresh = {"version": self.version + 1, "etag": _new_etag(), "updated_at": now}
        return type(self).model_validate({**dict(self), **fields, **fresh})

    @property
    def expires_at(self) -> datetime | None:
        """When it stops applying; ``None`` means never."""
        return self.updated_at + timedelta(seconds=self.ttl_seconds) if self.ttl_seconds else None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the edits; see ``miclip.steering.edits.fingerprint``."""
        return fingerprint(self.edits)

    def expired(self, now: datetime | None = None) -> bool:
        """Whether its time is over."""
        end = self.expires_at
        return end is not None and (now or datetime.now(UTC)) >= end

    def applies_to(self, request_id: str) -> bool:
        """Whether the request is in the policy's traffic share; the same request always gets the same answer.

        Each policy hashes differently, so that two policies of share 0.1 do not meet the same tenth of the requests.
        """
        digest = hashlib.sha256(f"{self.policy_id}\0{request_id}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.traffic_share * 2**64

    def to_json(self) -> str:
        """Return the policy as JSON."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse ``to_json``'s result; raises BadArtefact."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadArtefact("A stored policy is broken or newer than this program.") from error
