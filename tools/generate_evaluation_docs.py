"""Write what ``miclip evaluate --json`` found into docs/evaluation.md and the README, between their markers.

The sentences say where simple baselines win; they come before the tables and are made from the same result.

Usage: miclip evaluate --json > FILE; python -m tools.generate_evaluation_docs FILE
"""

from __future__ import annotations

import io
import sys
from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from miclip.cli import evaluation_tables, output
from miclip.evaluation.findings import FRESH, findings
from miclip.evaluation.result import NAMES, Result, Target, Units, read_result

ROOT = Path(__file__).parent.parent
MARKERS = ("<!-- miclip evaluate -->", "<!-- end -->")
SENTENCES = "findings"
README_MODEL = "emoji-resnet"
README_SECTIONS = ("labels", "carried")
README_LABELS = ("default", "closed_vocabulary", "clip_dissect", "clip_dissect_attribution", "semanticlens",
                 "network_dissection", "filter")  # fmt: skip
README_METHODS = ("random", "clip_dissect", "clip_dissect_attribution", "semanticlens", "output_only", "mechanism",
                  "random_encoder", "filter", "attribution", "oracle")  # fmt: skip
README_UNITS = ("neurons", "features")
WIDTH = 170


def block(result: Result, models: Collection[str] = (), sections: Collection[str] = ()) -> str:
    """Return what was found of some models, in sentences and in tables, as Markdown.

    Args:
        result: The result.
        models: Models to show; none means all.
        sections: Sections of tables to show; none means all. The sentences are always of the whole result.
    """
    parts = []
    for name in result.targets:
        if not models or name in models:
            sentences = "\n".join(f"- {sentence}" for sentence in findings(result, name))
            target = result.targets[name]
            seeds = f"mean of {target.seeds} alignments" if target.seeds > 1 else "one alignment"
            parts.append(f"**{name}**, top-1 {target.held_out_top1:.1f} %, {seeds}:\n\n{sentences}")
    return "\n\n".join([*parts, printed(result, models, sections)])


def printed(result: Result, models: Collection[str] = (), sections: Collection[str] = ()) -> str:
    """Return the tables that the command prints of some models and sections (none means all), as a Markdown block."""
    screen, output.out = output.out, Console(file=io.StringIO(), width=WIDTH, highlight=False)
    try:
        for name in result.targets:
            for section, shown in evaluation_tables.sections(result, name).items():
                if (not models or name in models) and _wanted(section, sections):
                    output.show(*shown)
        text: str = output.out.file.getvalue()  # type: ignore[attr-defined]
    finally:
        output.out = screen
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines.strip()}\n```"


def _wanted(section: str, sections: Collection[str]) -> bool:
    return section in sections if sections else section != SENTENCES


def brief(target: Target) -> Target:
    """Return a target's labels and carried attribution of class names and fresh queries, of a few methods."""
    places = tuple(_brief(place) for place in target.places if place.units in README_UNITS)
    return target.model_copy(update={"places": places, "unseen": None})


def _brief(place: Units) -> Units:
    labels = {name: found for name, found in place.labels.items() if name in README_LABELS}
    carried = {}
    for kind, found in place.carried.items():
        if kind == NAMES or kind.startswith(FRESH):
            methods = {name: figure for name, figure in found.methods.items() if name in README_METHODS}
            carried[kind] = found.model_copy(update={"methods": methods})
    return place.model_copy(
        update={"labels": labels, "carried": carried, "agreement": {}, "localizations": {}, "descriptions": {}}
    )  # fmt: skip


def replaced(text: str, block: str) -> str:
    """Return ``text`` with what stands between the markers exchanged."""
    before, found, rest = text.partition(MARKERS[0])
    _, ended, after = rest.partition(MARKERS[1])
    if not (found and ended):
        raise SystemExit(f"There is no text between {MARKERS[0]} and {MARKERS[1]}.")
    return f"{before}{MARKERS[0]}\n{block}\n{MARKERS[1]}{after}"


def readme(result: Result) -> str:
    """Return the README's part: the sentences on one model, and a few of its tables."""
    short = result.model_copy(update={"targets": {README_MODEL: brief(result.targets[README_MODEL])}})
    sentences = block(result, [README_MODEL]).split("\n\n```text")[0]
    return f"{sentences}\n\n{printed(short, sections=README_SECTIONS)}"


def main() -> None:
    """Write both files."""
    result = read_result(Path(sys.argv[1]))
    blocks = {ROOT / "docs" / "evaluation.md": block(result), ROOT / "README.md": readme(result)}
    for path, text in blocks.items():
        path.write_text(replaced(path.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
