"""How long an alignment will still take."""

from __future__ import annotations


class Estimate:
    """Time left of an alignment, from the pace of its encoders.

    Args:
        layers: Layers to align.
        encoders: Encoders of a layer: the first, and those that judge its labels.
    """

    def __init__(self, layers: int, encoders: int) -> None:
        self._layers, self._encoders, self._aligned = layers, encoders, 0
        self._stage, self._steps, self._began = "", 0, 0.0

    def update(self, stage: str, done: int, total: int, now: float) -> float | None:
        """Return the seconds left, None while unknown.

        Args:
            stage: Stage at work; those of a layer's encoders begin with ``encoder`` (the first) and ``labels``.
            done: Steps of the stage that are done.
            total: Its steps.
            now: A clock in seconds.
        """
        if stage != self._stage:
            self._aligned += stage.startswith("encoder") and self._stage.startswith(("encoder", "labels"))
            self._stage, self._steps, self._began = stage, done, now
        if not stage.startswith(("encoder", "labels")) or done <= self._steps:
            return None
        pace = (now - self._began) / (done - self._steps)
        return round(pace * (total - done + self._to_come(total)), 1)

    def _to_come(self, total: int) -> int:
        """Steps of the stages after this one."""
        judging = self._encoders - 1
        steps = total if self._stage.startswith("encoder") else total // judging
        here = steps * judging if self._stage.startswith("encoder") else 0
        return here + steps * self._encoders * (self._layers - self._aligned - 1)
