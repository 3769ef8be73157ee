"""What a result is made of: immutable records, figures with intervals, and pairs of interventions."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Record(BaseModel):
    """A part of the result: immutable, without unknown fields, and finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Figure(Record):
    """A mean with its interval."""

    value: float
    low: float
    high: float


class NullFigure(Figure):
    """A mean with its interval, and the same mean with labels shuffled among units."""

    null: float


class ByScale(Record, Generic[T]):
    """The same of both interventions: the units doubled, and the units removed."""

    scale_2: T
    scale_0: T

    def of(self, scale: str) -> T:
        """Return that of ``scale_2`` or ``scale_0``."""
        value: T = getattr(self, scale)
        return value
