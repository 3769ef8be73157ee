"""What a bundle's ``bundle.json`` says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from miclip.errors import BadArtefact

MANIFEST = "bundle.json"
FileStem = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""A name of a file or folder, without its ending: no dots and no slashes, so that it stays inside the bundle."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSet(_Frozen):
    """Seeded views of the drawings of some styles.

    Attributes:
        name: Name that requests and atlases give it.
        styles: Folders below ``images``.
        views: Views of each drawing.
        seed: Seed of the views.
    """

    name: FileStem
    styles: tuple[FileStem, ...] = Field(min_length=1)
    views: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)


class BundleImages(_Frozen):
    """Labelled images: ``images/{style}/{file}.webp`` is one style's drawing of one label.

    Attributes:
        licence: Licence note, kept in the atlases that are made from them.
        size: Edge of a view in pixels.
        files: File stem by label; every style draws every label.
        probe: What models are aligned on.
        held_out: What nothing was trained or aligned on: receipts are measured on it.
    """

    licence: str
    size: int = Field(ge=8, le=1024)
    files: dict[str, FileStem] = Field(min_length=1)
    probe: ImageSet
    held_out: ImageSet

    @property
    def labels(self) -> tuple[str, ...]:
        """What the drawings show, in order."""
        return tuple(self.files)


class BundleManifest(_Frozen):
    """What a bundle offers beside the models and atlases in its folders.

    Attributes:
        name: Name of the bundle.
        clip: Id of the CLIP in ``models`` that is the shared space where the settings name none; empty without one.
        vocabularies: Ids of the vocabularies to offer: ``vocabularies/{id}.txt``, a concept a line.
        images: Labelled images; None without any.
    """

    format: Literal[1] = 1
    name: FileStem
    clip: str = ""
    vocabularies: tuple[FileStem, ...] = ()
    images: BundleImages | None = None


def read_manifest(folder: Path) -> BundleManifest:
    """Read ``bundle.json``; raises BadArtefact."""
    try:
        return BundleManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        text = f"The bundle {folder.name!r} has no readable {MANIFEST}. Correct MICLIP_BUNDLES, or repair the bundle."
        raise BadArtefact(text) from error
