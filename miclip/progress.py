"""How far long work is: one value, and one kind of function that is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum


class StageKind(StrEnum):
    """What is being done; the value is the word that people read."""

    LOADING = "loading"
    ACTIVATIONS = "activations"
    """The pass of models over a probe set."""
    OUTPUTS = "outputs"
    """Attributing the outputs that few probe images are predicted as."""
    RECOLOURED = "recoloured images"
    """A further pass over the images that judge labels, in other colours."""
    ENCODER = "encoder"
    """Training the encoder of a layer that an atlas keeps."""
    LABELS = "labels"
    """Training a layer's further encoders, which judge its labels."""
    ATLAS = "atlas"
    DICTIONARY = "dictionary"
    """Training a sparse autoencoder."""
    DRAWINGS = "drawings"
    CLIP = "clip"
    PRETRAIN = "pretrain"
    FINE_TUNE = "fine-tune"
    DISTIL = "distil"
    DESCRIPTIONS = "descriptions"
    """Labels of units from an open vocabulary."""
    INTERVENTIONS = "interventions"
    """Scaling units and measuring what changes."""
    COST = "cost"
    """Timing a method."""
    REPORT = "report"
    """Drawing the pictures of a report."""
    OTHER = ""
    """Known by its text alone: see :meth:`Stage.named`."""


@dataclass(frozen=True)
class Stage:
    """A part of long work; as text ``encoder layer4``, with a subject ``emoji-resnet: encoder layer4``.

    Attributes:
        kind: What is being done.
        layer: In which layer, or with which vocabulary; empty for work that is of neither.
        subject: For what, where the same work is done for several: a model, a seed.
    """

    kind: StageKind
    layer: str = ""
    subject: str = ""

    @classmethod
    def named(cls, text: str) -> Stage:
        """Return a stage that is known by its text alone, such as one that a server names."""
        return cls(StageKind.OTHER, subject=text)

    def __str__(self) -> str:
        """Return the text that people read."""
        own = " ".join(part for part in (self.kind.value, self.layer) if part)
        return ": ".join(part for part in (self.subject, own) if part)


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: The stage at work.
        done: Steps that are done, 0 to ``total``.
        total: Steps in all.
        loss: Mean training loss of late, where the stage has one.
    """

    stage: Stage
    done: int
    total: int
    loss: float | None = None


Report = Callable[[Progress], None]
"""Told of progress; an exception that it raises ends the work."""


def silent(_progress: Progress) -> None:
    """Tell no one."""


def about(subject: str, report: Report) -> Report:
    """Return a function that reports every stage as one of ``subject``."""
    return lambda now: report(replace(now, stage=replace(now.stage, subject=subject)))
