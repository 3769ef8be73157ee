"""A model's dictionaries on disk: ``{model}.dictionaries/{id}/``, in SAELens' layout with a description beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from miclip.errors import BadArtefact, MiclipError
from miclip.files import write_file
from miclip.models.sae import SaeConfig, SparseAutoencoder
from miclip.models.sae_files import WEIGHTS, read_sae, write_sae
from miclip.models.weights import file_sha256
from miclip.names import check_id

MANIFEST = "dictionary.json"


class DictionaryManifest(BaseModel):
    """What is known of a dictionary.

    Attributes:
        model: Id of the target model.
        layer: The layer that it reads and writes.
        weights_sha256: Hash of the target model's weights.
        weights_file_sha256: Hash of the dictionary's weights file.
        quality: What was measured on images not trained on; see ``miclip.dictionaries.Quality``.
        training: Recipe and images; empty for one that came from elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    layer: str
    weights_sha256: str
    weights_file_sha256: str = ""
    quality: dict[str, float] = {}
    training: dict[str, Any] = {}


def dictionary_folder(models: Path, model: str) -> Path:
    """Return where the dictionaries of a model lie below the folder of models."""
    return models / f"{model}.dictionaries"


def write_dictionary(
    folder: Path, manifest: DictionaryManifest, config: SaeConfig, tensors: dict[str, Tensor]
) -> DictionaryManifest:
    """Write a dictionary into ``folder``, which bears its id; returns the manifest with the file's hash filled in."""
    described = {"model_name": manifest.model, "hook_name": manifest.layer, **manifest.training}
    write_sae(folder, config, tensors, described)
    manifest = manifest.model_copy(update={"weights_file_sha256": file_sha256(folder / WEIGHTS)})
    write_file(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def read_manifest(folder: Path) -> DictionaryManifest:
    """Read a dictionary's description; raises BadArtefact."""
    try:
        return DictionaryManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        text = f"The description of dictionary {folder.name!r} is missing, broken, or newer than this program."
        raise BadArtefact(text) from error


def read_dictionaries(models: Path, model: str) -> list[tuple[DictionaryManifest, SparseAutoencoder]]:
    """Read all dictionaries of a model, by id; raises BadArtefact when one is broken or not as described."""
    folder = dictionary_folder(models, model)
    return [_read(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []


def _read(folder: Path) -> tuple[DictionaryManifest, SparseAutoencoder]:
    manifest = read_manifest(folder)
    if not (folder / WEIGHTS).is_file() or file_sha256(folder / WEIGHTS) != manifest.weights_file_sha256:
        raise BadArtefact(f"The weights of dictionary {folder.name!r} are missing, truncated, or not as described.")
    try:
        config, tensors = read_sae(folder)
        name = check_id(folder.name, field="dictionary")
        return manifest, SparseAutoencoder(name, manifest.layer, config, tensors, manifest.quality)
    except MiclipError as error:
        raise BadArtefact(f"Dictionary {folder.name!r}: {error}") from error
