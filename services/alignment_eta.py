"""How long an alignment will still take."""

from __future__ import annotations


class Estimate:
    """Time left of an alignment, from the pace of its encoders.

    Args:
        layers: Encoders to train in all.
    """

    def __init__(self, layers: int) -> None:
        self._layers, self._trained = layers, 0
        self._stage, self._steps, self._began = "", 0, 0.0

    def update(self, stage: str, done: int, total: int, now: float) -> float | None:
        """Return the seconds left, None while unknown.

        Args:
            stage: Stage at work; those of encoders begin with ``encoder``.
            done: Steps of the stage that are done.
            total: Its steps.
            now: A clock in seconds.
        """
        if stage != self._stage:
            self._trained += self._stage.startswith("encoder")
            self._stage, self._steps, self._began = stage, done, now
        if not stage.startswith("encoder") or done <= self._steps:
            return None
        pace = (now - self._began) / (done - self._steps)
        return round(pace * (total - done + total * (self._layers - self._trained - 1)), 1)
