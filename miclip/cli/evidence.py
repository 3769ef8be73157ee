"""How far the units of a concept are to be trusted, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miclip.cli import output

if TYPE_CHECKING:
    from miclip.evidence import Evidence

_NAMED = 3  # labels of an answer


def seen_as(evidence: Evidence) -> str:
    """Return what the model took the probe images for that a query was answered from: ``dog 91 %, wolf 4 %``."""
    return ", ".join(f"{share.label} {100 * share.share:.0f} %" for share in evidence.labels[:_NAMED])


def doubt(concept: str, evidence: Evidence | None) -> str:
    """Return why the units of ``concept`` are not to be trusted; empty where they are, or where nothing is known."""
    if evidence is None or not evidence.doubtful:
        return ""
    if evidence.negation:
        return (
            f'Doubtful: an embedding of "{concept}" does not know what "{evidence.negation}" negates. These are the '
            f"units of {seen_as(evidence)}."
        )
    rank = f"relevance {evidence.relevance:.2f}, null percentile {evidence.null_percentile:.0f}"
    return (
        f'Doubtful: the probe images may not show "{concept}". The model takes those nearest to it ({rank}) for '
        f"{seen_as(evidence)}, and the units are most likely theirs."
    )


def warn(concept: str, evidence: Evidence | None) -> None:
    """Tell a person that the units of ``concept`` are not to be trusted, where they are not."""
    if text := doubt(concept, evidence):
        output.note(text)
