"""Which models leave the device to make room for another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miclip.errors import Overloaded, TooLarge

_RETRY_S = 5.0


@dataclass(frozen=True)
class Load:
    """A loaded model: its id, its bytes on the device, and whether requests use it or wait for it."""

    model: str
    bytes: int
    busy: bool


@dataclass(frozen=True)
class Budget:
    """How much may be loaded at a time; 0 is no limit.

    Attributes:
        models: Number of models.
        bytes: Their bytes on the device.
    """

    models: int = 0
    bytes: int = 0

    def fits(self, loads: Sequence[Load], wanted: int) -> bool:
        """Whether a model of ``wanted`` bytes can be loaded beside the others."""
        taken = sum(load.bytes for load in loads)
        return not (self.models and len(loads) >= self.models) and not (self.bytes and taken + wanted > self.bytes)

    def victim(self, loads: Sequence[Load], model: str, wanted: int) -> str | None:
        """Return which model is to leave next, so that ``model`` can be loaded; None when it fits already.

        Args:
            loads: Loaded models, the least recently used first.
            model: Id of the model to load.
            wanted: Its bytes.

        Raises:
            TooLarge: it does not fit into an empty device.
            Overloaded: it would fit, but requests use too many of the others.
        """
        if self.bytes and wanted > self.bytes:
            text = f"Model {model!r} takes {_size(wanted)}, but this server's models may take {_size(self.bytes)}."
            raise TooLarge(f"{text} Raise MICLIP_MODEL_BYTES, or use a smaller model.", field="model")
        return None if self.fits(loads, wanted) else idle(loads, model)


def idle(loads: Sequence[Load], model: str) -> str:
    """Return the least recently used model that no request uses, to make room for ``model``; raises Overloaded."""
    for load in loads:
        if not load.busy:
            return load.model
    text = f"There is no room for model {model!r}: requests use all {len(loads)} loaded models. Try again."
    raise Overloaded(text, retry_after=_RETRY_S, field="model")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
