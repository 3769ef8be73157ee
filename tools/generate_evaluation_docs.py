"""Write what ``miclip evaluate --json`` found into docs/evaluation.md and the README, between their markers.

Usage: miclip evaluate --json > FILE; python tools/generate_evaluation_docs.py FILE
"""

from __future__ import annotations

import io
import sys
from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from miclip.cli import evaluation_tables, output
from miclip.evaluation.result import NAMES, Result, Target, Units, read_result
from miclip.models.target import LOGITS

ROOT = Path(__file__).parent.parent
MARKERS = ("<!-- miclip evaluate -->", "<!-- end -->")
README_MODEL = "emoji-resnet"
README_SECTIONS = ("labels", "localization", "verdict", "evidence")
README_METHODS = ("random", "mean_activation", "clip_dissect", "semanticlens", "filter", "attribution", "oracle")
WIDTH = 160


def printed(result: Result, models: Collection[str] = (), sections: Collection[str] = ()) -> str:
    """Return what the command prints of some models and sections (none means all), as a Markdown block."""
    screen, output.out = output.out, Console(file=io.StringIO(), width=WIDTH, highlight=False)
    try:
        for name, target in result.targets.items():
            for section, shown in evaluation_tables.sections(name, target).items():
                if (not models or name in models) and (not sections or section in sections):
                    output.show(*shown)
        text: str = output.out.file.getvalue()  # type: ignore[attr-defined]
    finally:
        output.out = screen
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines.strip()}\n```"


def brief(target: Target, methods: Collection[str]) -> Target:
    """Return a target's figures with interventions on the last layer before the logits alone, found by ``methods``."""
    last = next(place.layer for place in reversed(target.places) if place.layer != LOGITS)
    unseen = target.unseen
    if unseen:
        hidden = tuple(place for place in unseen.places if place.layer == last)
        unseen = unseen.model_copy(update={"places": hidden})
    places = tuple(_brief(place, methods if place.layer == last else ()) for place in target.places)
    return target.model_copy(update={"places": places, "unseen": unseen})


def _brief(place: Units, methods: Collection[str]) -> Units:
    localizations = {}
    for kind, localization in place.localizations.items() if methods else ():
        chosen = {name: effects for name, effects in localization.methods.items() if name in methods}
        localizations[kind] = localization.model_copy(update={"methods": chosen}) if kind == NAMES else localization
    return place.model_copy(update={"agreement": {}, "localizations": localizations, "descriptions": {}})


def replaced(text: str, block: str) -> str:
    """Return ``text`` with what stands between the markers exchanged."""
    before, found, rest = text.partition(MARKERS[0])
    _, ended, after = rest.partition(MARKERS[1])
    if not (found and ended):
        raise SystemExit(f"There is no text between {MARKERS[0]} and {MARKERS[1]}.")
    return f"{before}{MARKERS[0]}\n{block}\n{MARKERS[1]}{after}"


def main() -> None:
    """Write both files."""
    result = read_result(Path(sys.argv[1]))
    short = result.model_copy(update={"targets": {README_MODEL: brief(result.targets[README_MODEL], README_METHODS)}})
    blocks = {
        ROOT / "docs" / "evaluation.md": printed(result),
        ROOT / "README.md": printed(short, sections=README_SECTIONS),
    }
    for path, block in blocks.items():
        path.write_text(replaced(path.read_text(encoding="utf-8"), block), encoding="utf-8")


if __name__ == "__main__":
    main()
