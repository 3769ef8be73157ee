"""Write what ``miclip evaluate --json`` found into docs/evaluation.md and the README, between their markers.

Usage: miclip evaluate --json > FILE; python tools/generate_evaluation_docs.py FILE
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.console import Console

from miclip.cli import evaluation_tables, output

ROOT = Path(__file__).parent.parent
MARKERS = ("<!-- miclip evaluate -->", "<!-- end -->")
README_MODEL = "emoji-resnet"
README_SECTIONS = ("labels", "localization", "verdict", "evidence")
README_METHODS = ("random", "mean_activation", "clip_dissect", "semanticlens", "filter", "attribution", "oracle")
WIDTH = 160


def printed(value: dict[str, Any], models: Collection[str] = (), sections: Collection[str] = ()) -> str:
    """Return what the command prints of some models and sections (none means all), as a Markdown block."""
    screen, output.out = output.out, Console(file=io.StringIO(), width=WIDTH, highlight=False)
    try:
        for name, target in value["targets"].items():
            for section, shown in evaluation_tables.sections(name, target).items():
                if (not models or name in models) and (not sections or section in sections):
                    output.show(*shown)
        text: str = output.out.file.getvalue()  # type: ignore[attr-defined]
    finally:
        output.out = screen
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines.strip()}\n```"


def penultimate(target: dict[str, Any], methods: Collection[str]) -> dict[str, Any]:
    """Return a target's figures with interventions on the last layer before the logits alone, found by ``methods``."""
    *_, last = (layer for layer in target["layers"] if layer != "logits")
    kept = {layer: {units: _part(figures, methods if layer == last else ()) for units, figures in found.items()
                    if units in evaluation_tables.UNITS}
            for layer, found in target["layers"].items()}  # fmt: skip
    part = {**target, "layers": kept}
    if trusted := (target.get("unseen") or {}).get("trusted_share"):
        part["unseen"] = {**target["unseen"], "trusted_share": {last: trusted[last]}}
    return part


def _part(figures: dict[str, Any], methods: Collection[str]) -> dict[str, Any]:
    part = {"labels": figures["labels"], "agreement": {}}
    if methods:
        part["localization"] = {name: one for name, one in figures["localization"].items() if name in methods}
        part |= {name: figures[name] for name in ("verdict", "evidence") if name in figures}
    return part


def replaced(text: str, block: str) -> str:
    """Return ``text`` with what stands between the markers exchanged."""
    before, found, rest = text.partition(MARKERS[0])
    _, ended, after = rest.partition(MARKERS[1])
    if not (found and ended):
        raise SystemExit(f"There is no text between {MARKERS[0]} and {MARKERS[1]}.")
    return f"{before}{MARKERS[0]}\n{block}\n{MARKERS[1]}{after}"


def main() -> None:
    """Write both files."""
    value = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    brief = {"targets": {README_MODEL: penultimate(value["targets"][README_MODEL], README_METHODS)}}
    blocks = {
        ROOT / "docs" / "evaluation.md": printed(value),
        ROOT / "README.md": printed(brief, sections=README_SECTIONS),
    }
    for path, block in blocks.items():
        path.write_text(replaced(path.read_text(encoding="utf-8"), block), encoding="utf-8")


if __name__ == "__main__":
    main()
