"""The page as one document."""

from __future__ import annotations

from collections.abc import Sequence

from miclip.evaluation.report import experiments, gallery
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.provenance import provenance
from miclip.evaluation.report.sections import section
from miclip.evaluation.report.templates import fill
from miclip.evaluation.report.verdicts import tally
from miclip.evaluation.result import Result
from miclip.progress import Progress, Report, Stage, StageKind, silent


def render(result: Result, exhibits: Sequence[Exhibit], report: Report = silent) -> str:
    """Return the report as one HTML document. The same inputs give the same document.

    Args:
        result: The result of an evaluation.
        exhibits: Models to show pictures of, by their name in the result; a target without one has figures alone.
        report: Called after every target.
    """
    pictured = {exhibit.model.name: exhibit for exhibit in exhibits}
    sections = []
    for place, name in enumerate(result.targets, 1):
        sections.append(section(result, name, pictured.get(name)))
        report(Progress(Stage(StageKind.REPORT), place, len(result.targets)))
    return fill(
        "page.html.jinja",
        result=result,
        sections=sections,
        outcomes=tally(result.targets.values()),
        provenance=provenance(result, [pictured[name] for name in result.targets if name in pictured]),
        gallery=gallery,
        experiments=experiments,
    )
