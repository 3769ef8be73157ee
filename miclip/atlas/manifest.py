"""What an atlas's ``manifest.json`` says, and which files it has."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from miclip.atlas.forms import (
    FEATURE_TENSORS,
    HELD_OUT_TENSORS,
    LABEL_TENSORS,
    LAYER_TENSORS,
    OPTIONAL_LAYER_TENSORS,
    OPTIONAL_SHARED_TENSORS,
    SHARED_TENSORS,
    THUMBNAIL_TENSORS,
    Forms,
    TensorForms,
)
from miclip.errors import BadArtefact
from miclip.kinds import UnitEmbedding
from miclip.names import base_layer, is_dictionary_layer

SCHEMA_VERSION = 3
"""Schema this program writes, and the newest it reads. Schema 1 lacked ``LABEL_TENSORS`` and features, and had encoders
of float32. Schema 2 lacked pictures and the optional tensors."""

MANIFEST = "manifest.json"
PROBE = "probe.json"
SHARED = "shared"
PicturesStem = Literal["thumbnails", "held-out"]
THUMBNAILS: PicturesStem = "thumbnails"
HELD_OUT: PicturesStem = "held-out"
PICTURES = {THUMBNAILS: THUMBNAIL_TENSORS, HELD_OUT: HELD_OUT_TENSORS}
"""Stem of every file of pictures that an atlas may have → its tensors."""

_SHA256 = r"^[0-9a-f]{64}$"
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.(?:safetensors|json)", re.ASCII)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Frozen):
    """Checksum and size in bytes of one file of the atlas."""

    sha256: str = Field(pattern=_SHA256)
    bytes: int = Field(ge=1)


class ProbeEntry(_Frozen):
    """The images that the alignment looked at.

    Attributes:
        set: Name of the probe set.
        images: Number of distinct images.
        views: Number of rows (images, or augmented views of them) in every per-image tensor.
        sha256: Hash of the images.
    """

    set: str = Field(min_length=1)
    images: int = Field(ge=1)
    views: int = Field(ge=1)
    sha256: str = Field(pattern=_SHA256)


class PicturesEntry(_Frozen):
    """A file of encoded pictures.

    Attributes:
        pictures: Number of pictures.
        bytes: Size of all of them.
        edge: Longest edge of a thumbnail, or the edge that the model takes of a held-out image, in pixels.
        left_out: Pictures wanted that did not fit into the budget.
    """

    pictures: int = Field(ge=1)
    bytes: int = Field(ge=1, lt=2**31)
    edge: int = Field(ge=1)
    left_out: int = Field(default=0, ge=0)


class DictionaryEntry(_Frozen):
    """The dictionary whose features are a layer's units.

    Attributes:
        sha256: Hash of its configuration and weights (``SparseAutoencoder.sha256``).
        quality: What was measured of it when it was trained; see ``miclip.dictionaries.Quality``.
    """

    sha256: str = Field(pattern=_SHA256)
    quality: dict[str, float] = {}


class LayerEntry(_Frozen):
    """One aligned layer.

    Attributes:
        name: Layer of the target model; of features ``{layer}/dictionaries/{dictionary}``.
        kind: ``channels``, ``tokens``, ``features`` or ``logits``.
        units: Number of units d.
        unit_embedding: Default embedding of a unit for descriptions.
        metrics: What the alignment measured on this layer.
        file: The layer's file, a key of ``AtlasManifest.files``.
        dictionary: Of features: what their dictionary is; else None.
        nonzero: Of features: how many activations are not 0; else 0.
    """

    name: str = Field(min_length=1, max_length=280)
    kind: Literal["channels", "tokens", "features", "logits"]
    units: int = Field(ge=1)
    unit_embedding: UnitEmbedding
    metrics: dict[str, float] = {}
    file: str
    dictionary: DictionaryEntry | None = None
    nonzero: int = Field(default=0, ge=0)

    @property
    def base(self) -> str:
        """The layer of neurons that the units are made of; itself unless they are features."""
        return base_layer(self.name)

    @model_validator(mode="after")
    def _features_have_a_dictionary(self) -> LayerEntry:
        features = self.kind == "features"
        if features != is_dictionary_layer(self.name) or features != (self.dictionary is not None):
            raise ValueError("a layer of features needs a dictionary, in its name and its entry, and no other has one")
        return self


class AtlasManifest(_Frozen):
    """Everything about an atlas but its tensors. Holds no date, so that equal content has an equal id.

    Attributes:
        schema_version: Version of this layout.
        model: Key of the target model in the catalogue.
        weights_sha256: Hash of the target model's weights (``TargetModel.weights_sha256``).
        clip_id: Hash of the CLIP model's weights and configuration.
        clip_dim: Dimension D of the shared space.
        probe: The images used.
        labels: The target model's class names, in order.
        settings: Settings of the alignment (losses' weights, temperature, steps, seed, …).
        metrics: What the alignment measured on the whole model.
        layers: The aligned layers, from input to output.
        files: Checksum of every file but the manifest.
        licence: Licence notes of model, CLIP and probe images.
        pictures: ``THUMBNAILS`` and ``HELD_OUT`` → their file's content, where the atlas has them.
    """

    schema_version: Literal[1, 2, 3] = 3
    model: str = Field(min_length=1)
    weights_sha256: str = Field(pattern=_SHA256)
    clip_id: str = Field(min_length=1)
    clip_dim: int = Field(ge=1)
    probe: ProbeEntry
    labels: tuple[str, ...] = Field(min_length=1)
    settings: dict[str, str | int | float | bool | None] = {}
    metrics: dict[str, float] = {}
    layers: tuple[LayerEntry, ...] = Field(min_length=1)
    files: dict[str, FileEntry]
    licence: str = ""
    pictures: dict[PicturesStem, PicturesEntry] = {}

    @field_validator("files")
    @classmethod
    def _file_names_stay_inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
                raise ValueError(f"{name!r} is not a file name that an atlas may hold")
        return files

    @model_validator(mode="after")
    def _layers_and_files_match(self) -> AtlasManifest:
        expected = [shared_file(), PROBE, *map(pictures_file, self.pictures), *(layer.file for layer in self.layers)]
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise ValueError("a layer is listed twice")
        missing = [layer.base for layer in self.layers if self.layer(layer.base) is None]
        if missing:
            raise ValueError(f"there are features of layer {missing[0]!r}, which is not listed")
        if sorted(expected) != sorted(self.files):
            raise ValueError("the files listed are not those of the layers")
        return self

    @model_validator(mode="after")
    def _pictures_came_with_schema_3(self) -> AtlasManifest:
        if self.pictures and self.schema_version < 3:
            raise ValueError(f"schema {self.schema_version} has no pictures")
        return self

    def layer(self, name: str) -> LayerEntry | None:
        """Return the entry of layer ``name``, or None."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def shapes(self, tensors: TensorForms, **sizes: int) -> Forms:
        """Resolve the named sizes of a table of tensors; ``sizes`` are those that the manifest does not give."""
        known = {"views": self.probe.views, "dim": self.clip_dim, "labels": len(self.labels), **sizes}
        return {
            name: (dtype, tuple(known[dim] if isinstance(dim, str) else dim for dim in dims))
            for name, (dtype, dims) in tensors.items()
        }

    def shared_shapes(self) -> tuple[Forms, Forms]:
        """Return the forms of the tensors that belong to no layer: those that must be there, and those that may."""
        return self.shapes(SHARED_TENSORS), self.shapes(OPTIONAL_SHARED_TENSORS if self.schema_version >= 3 else {})

    def layer_shapes(self, entry: LayerEntry) -> tuple[Forms, Forms]:
        """Return the forms of the tensors that a layer's file must hold, and of those that it may."""
        tensors = FEATURE_TENSORS if entry.kind == "features" else LAYER_TENSORS
        if self.schema_version == 1:
            tensors = {**tensors, "encoder": (np.float32, tensors["encoder"][1])}
        optional = {**LABEL_TENSORS, **(OPTIONAL_LAYER_TENSORS if self.schema_version >= 3 else {})}
        sizes = {"units": entry.units, "nonzero": entry.nonzero}
        return self.shapes(tensors, **sizes), self.shapes(optional, **sizes)

    def pictures_shapes(self, stem: PicturesStem) -> Forms:
        """Return the forms of the tensors of a file of pictures."""
        entry = self.pictures[stem]
        return self.shapes(PICTURES[stem], pictures=entry.pictures, bytes=entry.bytes)


def shared_file() -> str:
    """File name of the tensors that belong to no layer."""
    return f"{SHARED}.safetensors"


def pictures_file(stem: str) -> str:
    """File name of ``THUMBNAILS`` or ``HELD_OUT``."""
    return f"{stem}.safetensors"


def layer_file(index: int) -> str:
    """File name of the ``index``-th layer: layer names never become paths."""
    return f"layer-{index:03d}.safetensors"


def to_bytes(manifest: AtlasManifest) -> bytes:
    """Serialise canonically: the same content is the same bytes."""
    text = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def from_bytes(data: bytes, atlas_id: str) -> AtlasManifest:
    """Parse a manifest and check that ``atlas_id`` is its hash and that this program can read it.

    Raises:
        BadArtefact: it was changed, is not a manifest, or is of a newer schema.
    """
    if hashlib.sha256(data).hexdigest() != atlas_id:
        raise BadArtefact(
            f"Atlas {short(atlas_id)}: its manifest does not match the atlas's id, so it was changed or damaged. "
            "Restore it, or align the model again."
        )
    return _validate(_parse(data, atlas_id), atlas_id)


def short(atlas_id: str) -> str:
    """Return the first 12 digits of an id, for messages."""
    return atlas_id[:12]


def _parse(data: bytes, atlas_id: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadArtefact(f"Atlas {short(atlas_id)}: its manifest is not JSON.") from error
    if not isinstance(content, dict):
        raise BadArtefact(f"Atlas {short(atlas_id)}: its manifest is not a JSON object.")
    return content


def _validate(content: dict[str, Any], atlas_id: str) -> AtlasManifest:
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BadArtefact(
            f"Atlas {short(atlas_id)} has schema version {version}; this program reads up to {SCHEMA_VERSION}. "
            "Upgrade miclip, or align the model again with this version."
        )
    try:
        return AtlasManifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BadArtefact(f"Atlas {short(atlas_id)}: its manifest is not valid ({where}: {first['msg']}).") from error
