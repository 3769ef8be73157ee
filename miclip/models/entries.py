"""Models that the operator lists in a JSON file: ``settings().catalogue``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from miclip.errors import BadArtefact
from miclip.models.loaders import HUB
from miclip.names import check_id


class Entry(BaseModel):
    """A model of the catalogue file.

    Attributes:
        source: ``timm/NAME``, ``torchvision/NAME``, ``open_clip/NAME`` or ``transformers/FOLDER_OR_NAME``.
        weights: Path of a safetensors file, or ``"hub"`` (``"hub:TAG"`` for OpenCLIP).
        labels: File of labels; empty means ImageNet-1k's.
        layers: Module paths; empty means the family's defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    weights: str
    labels: Path | None = None
    layers: tuple[str, ...] = ()

    def within(self, folder: Path) -> Self:
        """This entry with its files absolute: relative ones are in the catalogue file's folder."""
        labels = folder / self.labels if self.labels else None
        weights = self.weights if self.weights.startswith(HUB) else str(folder / self.weights)
        return self.model_copy(update={"labels": labels, "weights": weights})


def read_entries(file: Path | None) -> dict[str, Entry]:
    """Read the file; raises BadArtefact, or InvalidInput where an id is no name."""
    if file is None:
        return {}
    try:
        models = json.loads(file.read_bytes())["models"]
        entries = {name: Entry.model_validate(entry).within(file.absolute().parent) for name, entry in models.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        text = (
            f'The catalogue file {file.name!r} is missing or not {{"models": {{ID: {{"source": …, "weights": …}}}}}}.'
        )
        raise BadArtefact(text) from error
    for name in entries:
        check_id(name, field="models")
    return entries


def entry_state(entry: Entry) -> str:
    """Return what changes when the entry or one of its files does."""
    files = [Path(entry.weights), *([entry.labels] if entry.labels else [])]
    states = [file.stat() for file in files if file.is_file()]
    return json.dumps([entry.model_dump(mode="json"), [(state.st_size, state.st_mtime_ns) for state in states]])
