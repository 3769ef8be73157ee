"""How long an alignment will still take."""

from __future__ import annotations

from miclip.progress import Progress, Stage, StageKind

_OF_A_LAYER = (StageKind.ENCODER, StageKind.LABELS)


class Estimate:
    """Time left of an alignment, from the pace of its encoders.

    Args:
        layers: Layers to align.
        encoders: Encoders of a layer: the first, and those that judge its labels.
    """

    def __init__(self, layers: int, encoders: int) -> None:
        self._layers, self._encoders, self._aligned = layers, encoders, 0
        self._stage, self._steps, self._began = Stage(StageKind.OTHER), 0, 0.0

    def update(self, progress: Progress, now: float) -> float | None:
        """Return the seconds left, None while unknown.

        Args:
            progress: Of the stage at work.
            now: A clock in seconds.
        """
        stage, done = progress.stage, progress.done
        if stage != self._stage:
            self._aligned += stage.kind is StageKind.ENCODER and self._stage.kind in _OF_A_LAYER
            self._stage, self._steps, self._began = stage, done, now
        if stage.kind not in _OF_A_LAYER or done <= self._steps:
            return None
        pace = (now - self._began) / (done - self._steps)
        return round(pace * (progress.total - done + self._to_come(progress.total)), 1)

    def _to_come(self, total: int) -> int:
        """Steps of the stages after this one."""
        judging = self._encoders - 1
        first = self._stage.kind is StageKind.ENCODER
        steps = total if first else total // judging
        here = steps * judging if first else 0
        return here + steps * self._encoders * (self._layers - self._aligned - 1)
