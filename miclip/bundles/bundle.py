"""One bundle on disk, and those that the settings list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from miclip.bundles.manifest import BundleManifest, ImageSet, read_manifest
from miclip.settings import settings


@dataclass(frozen=True)
class Bundle:
    """A folder with ``bundle.json``, ``models/``, ``atlases/``, ``vocabularies/`` and ``images/``; read-only.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    @cached_property
    def manifest(self) -> BundleManifest:
        """What ``bundle.json`` says; raises BadArtefact."""
        return read_manifest(self.folder)

    @property
    def models(self) -> Path:
        """Folder of the models; see ``miclip.models.files``."""
        return self.folder / "models"

    @property
    def atlases(self) -> Path:
        """Folder of the atlases."""
        return self.folder / "atlases"

    def vocabulary(self, vocabulary_id: str) -> tuple[str, ...]:
        """Return the concepts of a vocabulary that the manifest names."""
        text = (self.folder / "vocabularies" / f"{vocabulary_id}.txt").read_text("utf-8")
        return tuple(text.splitlines())

    def shown(self, labels: Sequence[str]) -> dict[int, int]:
        """Return the labels that the bundle's images show: their place among ``labels`` → among the bundle's."""
        images = self.manifest.images
        places = {label: row for row, label in enumerate(images.labels)} if images else {}
        return {index: places[label] for index, label in enumerate(labels) if label in places}


@lru_cache(maxsize=64)
def _bundle(folder: Path) -> Bundle:
    return Bundle(folder)


def bundles() -> tuple[Bundle, ...]:
    """Return the bundles of ``settings().bundles``, in order."""
    return tuple(_bundle(folder) for folder in settings().bundles)


def bundle_of_model(model: str) -> Bundle | None:
    """Return the first bundle that holds ``model`` (an id of the catalogue), or None."""
    return next((bundle for bundle in bundles() if (bundle.models / f"{model}.json").is_file()), None)


def bundled_probe_sets() -> dict[str, tuple[Bundle, ImageSet]]:
    """Return the probe sets of the bundles by name; of two with a name the first bundle's."""
    offered = ((bundle, bundle.manifest.images) for bundle in reversed(bundles()))
    return {images.probe.name: (bundle, images.probe) for bundle, images in offered if images is not None}
