"""The page: its parts in order, its head, its style."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.report.markup import Html, el, join
from miclip.evaluation.report.provenance import provenance
from miclip.evaluation.report.result import places, read_result, unseen_places
from miclip.evaluation.report.sections import further, target_section
from miclip.evaluation.report.verdicts import LOST, OPEN, WON, tally

__all__ = ["read_result", "render"]

Progress = Callable[[str, int, int], None]
"""Called with stage, done, in all."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing may be fetched, and no script may run: browsers enforce what the file promises."""
_LEAD = """\
What the units of a model mean is judged in two ways: are labels right, and does scaling the units of a concept change
that concept and no other? All figures are of images that nothing was trained on."""


def render(
    result: Mapping[str, Any], exhibits: Sequence[Exhibit], progress: Progress = lambda stage, done, total: None
) -> str:
    """Return the report as one HTML document. The same inputs give the same document.

    Args:
        result: What ``miclip evaluate --json`` printed; sections that it lacks are left out.
        exhibits: Models to show pictures of, by their name in the result; a target without one has figures alone.
        progress: Told of every target that is done.
    """
    shown = {exhibit.model.name: exhibit for exhibit in exhibits}
    parts, targets = [], result["targets"]
    for place, (name, target) in enumerate(targets.items(), 1):
        parts.append(target_section(f"target-{place}", name, target, shown.get(name)))
        progress("report", place, len(targets))
    used = [shown[name] for name in targets if name in shown]
    body = join(
        el("header", el("h1", "miclip evaluation"), el("p", _LEAD, class_="lead"), _summary(targets),
           _contents(targets)),
        el("main", parts, further({key: value for key, value in result.items() if key != "targets"}),
           el("section", el("h2", "Provenance"), provenance(result, used), id="provenance")),
        el("footer", el("p", "Written by miclip. The method is that of Shi et al., “MICLIP: Learning to Interpret "
                             "Representation in Vision Models”, ICLR 2026; what goes beyond it is miclip's.")),
    )  # fmt: skip
    return f"<!doctype html>\n{_document(body)}\n"


def _document(body: Html) -> Html:
    style = resources.files("miclip.evaluation.report").joinpath("style.css").read_text("utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", "miclip evaluation"),
        el("style", Html(style)),
    )
    return el("html", head, el("body", body), lang="en")


def _summary(targets: Mapping[str, Any]) -> Html | None:
    said = tally([place for target in targets.values() for place in (*places(target), *unseen_places(target))])
    total = sum(said.values())
    if not total:
        return None
    text = (
        f"miclip's default localisation beats every baseline in {said[WON]} of {total} comparisons (units × kind of "
        f"query × doubled or removed), is ahead but not surely in {said[OPEN]}, and does not beat the best baseline in "
        f"{said[LOST]}. Each is spelled out below."
    )
    worst = next((name for name in (LOST, OPEN) if said[name]), WON)
    return el("p", text, class_=f"summary {worst}")


def _contents(targets: Mapping[str, Any]) -> Html:
    links = [el("a", name, href=f"#target-{place}") for place, name in enumerate(targets, 1)]
    return el("nav", links, el("a", "Provenance", href="#provenance"), aria_label="Contents")
