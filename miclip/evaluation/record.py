"""Interventions that were measured, on disk, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miclip.evaluation.intervention import Change
from miclip.files import write_file
from miclip.row_store import key_of

Tick = Callable[[], None]


def recorded(
    folder: Path, inputs: Any, count: int, tick: Tick, measure: Callable[[Tick], dict[str, list[Change]]]
) -> dict[str, list[Change]]:
    """Return what ``measure`` gives, from an earlier run where that had finished it.

    Args:
        folder: Where the records lie.
        inputs: Everything that determines the result, as JSON.
        count: Queries, each of which ticks.
        tick: Called after every query.
        measure: Called with ``tick`` where there is no record.
    """
    path = folder / f"{key_of(inputs)}.json"
    if path.exists():
        for _ in range(count):
            tick()
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {scale: [Change(**change) for change in changes] for scale, changes in saved.items()}
    found = measure(tick)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({scale: [asdict(c) for c in changes] for scale, changes in found.items()}))
    return found
