"""A stop: the kill switch of one model, or of all."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Stop(BaseModel):
    """That steering is stopped.

    Attributes:
        model: Id of the model; empty: of all models.
        reason: Why.
        stop_time: Since when.
        stopped_by: Id of the API key, never the key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = ""
    reason: str
    stop_time: AwareDatetime
    stopped_by: str
