"""Reading an atlas: everything is verified when it is opened, and nothing is copied into memory."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miclip.atlas.layer import LayerAtlas
from miclip.atlas.manifest import (
    HELD_OUT,
    MANIFEST,
    PROBE,
    THUMBNAILS,
    AtlasManifest,
    LayerEntry,
    PicturesStem,
    from_bytes,
    pictures_file,
    shared_file,
    short,
)
from miclip.atlas.pictures import HeldOut, Thumbnails
from miclip.atlas.tensors import TensorFile, map_verified
from miclip.errors import BadArtefact, NotAligned

Float32 = NDArray[np.float32]
Float16 = NDArray[np.float16]
Int32 = NDArray[np.int32]

_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_MANIFEST = 2**26


def is_atlas_id(value: str) -> bool:
    """Whether ``value`` has the form of an atlas id: 64 lower-case hexadecimal digits."""
    return _ID.fullmatch(value) is not None


def verify(path: Path) -> AtlasManifest:
    """Check an atlas directory wholly: id, schema, every checksum, every tensor's dtype and shape.

    Args:
        path: Directory named by the atlas's id.

    Raises:
        BadArtefact: it is broken, truncated, changed, swapped, missing or newer than this program.
    """
    return Atlas.open(path.parent, path.name).manifest


def read_manifest(path: Path) -> AtlasManifest:
    """Read and check the manifest of the atlas directory ``path``, without its tensors; raises BadArtefact."""
    if not is_atlas_id(path.name):
        raise BadArtefact(f"{path.name[:80]!r} is not an atlas id: 64 hexadecimal digits are.")
    try:
        with (path / MANIFEST).open("rb") as file:
            data = file.read(_MAX_MANIFEST)
    except OSError as error:
        raise BadArtefact(f"Atlas {short(path.name)} does not exist or has no manifest.") from error
    return from_bytes(data, path.name)


class Atlas:
    """An opened, verified atlas. Immutable; safe to share between threads.

    Attributes:
        atlas_id: SHA-256 of the manifest.
        manifest: What the atlas says of itself.
        probe_images: Name of the probe image of every row.
        thumbnails: Of the probe rows that units need; None where the atlas has none.
        held_out: Images that nothing of the atlas was made from; None where the atlas has none.
    """

    def __init__(
        self,
        atlas_id: str,
        manifest: AtlasManifest,
        shared: TensorFile,
        layers: dict[str, LayerAtlas],
        images: list[str],
        thumbnails: Thumbnails | None,
        held_out: HeldOut | None,
    ) -> None:
        self.atlas_id, self.manifest, self.probe_images = atlas_id, manifest, images
        self._shared, self._layers = shared, layers
        self.thumbnails, self.held_out = thumbnails, held_out

    @property
    def name(self) -> str:
        """``atlases/{sha256}``."""
        return f"atlases/{self.atlas_id}"

    @classmethod
    def open(cls, root: Path, atlas_id: str, *, model_weights_sha256: str | None = None) -> Atlas:
        """Open and verify the atlas ``atlas_id`` below ``root``.

        Args:
            root: Directory of atlases.
            atlas_id: SHA-256 of the manifest, the name of the atlas's directory.
            model_weights_sha256: Refuse the atlas unless it was made for these weights.

        Raises:
            BadArtefact: it is broken, truncated, changed, swapped, missing, too new, or of other weights.
        """
        manifest = read_manifest(root / atlas_id)
        if model_weights_sha256 is not None and manifest.weights_sha256 != model_weights_sha256:
            raise BadArtefact(
                f"Atlas {short(atlas_id)} was made for other weights of model {manifest.model}. "
                "Align the model again, or activate the atlas of these weights."
            )
        return cls(atlas_id, manifest, *_contents(root / atlas_id, manifest))

    def check_clip(self, clip_id: str) -> None:
        """Raise BadArtefact when the atlas was made with another CLIP model than that of ``clip_id``."""
        if self.manifest.clip_id != clip_id:
            raise BadArtefact(
                f"Atlas {short(self.atlas_id)} of model {self.manifest.model} was made with another CLIP model than "
                "the one in use. Align the model again, or activate an atlas made with this one."
            )

    def layer(self, name: str) -> LayerAtlas:
        """Return layer ``name``; raises NotAligned naming the layers there are."""
        if name not in self._layers:
            there = ", ".join(self._layers)
            raise NotAligned(
                f"Layer {name[:80]!r} of model {self.manifest.model} is not in its atlas. Aligned layers: {there}.",
                field="layer",
                allowed=there,
            )
        return self._layers[name]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Aligned layers, from input to output, each with the features of its dictionaries behind it."""
        return tuple(self._layers)

    @property
    def neuron_layers(self) -> tuple[str, ...]:
        """Aligned layers of neurons, from input to output: those whose activations have an encoder."""
        return tuple(layer.name for layer in self.manifest.layers if layer.kind != "features")

    @property
    def default_layer(self) -> str:
        """The layer that says most about concepts: the last of neurons before the logits, or the logits if alone."""
        hidden = [layer.name for layer in self.manifest.layers if layer.kind not in ("logits", "features")]
        return hidden[-1] if hidden else self.layer_names[-1]

    def thumbnail(self, row: int) -> bytes | None:
        """Return the thumbnail of a probe row, WebP; None where the atlas has none of it."""
        return self.thumbnails.of_row(row) if self.thumbnails else None

    @property
    def image_embeddings(self) -> Float16:
        """CLIP image embeddings of the probe rows [N, D], normalised."""
        return self._shared["image_embeddings"]

    @property
    def predicted(self) -> Int32:
        """Label that the target model predicted for every probe row [N], an index into ``manifest.labels``."""
        return self._shared["predicted"]

    @property
    def label_embeddings(self) -> Float32:
        """CLIP text embeddings of the labels [K, D]."""
        return self._shared["label_embeddings"]

    @cached_property
    def label_mean(self) -> Float32:
        """Mean of the label embeddings [D], which centres texts."""
        mean: Float32 = self.label_embeddings.mean(axis=0)
        return mean


def _contents(
    path: Path, manifest: AtlasManifest
) -> tuple[TensorFile, dict[str, LayerAtlas], list[str], Thumbnails | None, HeldOut | None]:
    shared = TensorFile(path / shared_file(), manifest.files[shared_file()], *manifest.shared_shapes())
    _check_range(shared["predicted"], 0, len(manifest.labels), "predicted labels", path)
    layers = {}
    for entry in manifest.layers:
        file = TensorFile(path / entry.file, manifest.files[entry.file], *manifest.layer_shapes(entry))
        _check_range(file["top_images"], -1, manifest.probe.views, "top images", path)
        if entry.kind == "features":
            _check_sparse(file, entry, path)
        layers[entry.name] = LayerAtlas(entry, file)
    thumbnails, held_out = (_pictures(path, manifest, stem) for stem in (THUMBNAILS, HELD_OUT))
    return (
        shared,
        layers,
        _probe_images(path, manifest),
        Thumbnails(thumbnails, manifest.probe.views) if thumbnails else None,
        HeldOut(held_out, len(manifest.labels)) if held_out else None,
    )


def _pictures(path: Path, manifest: AtlasManifest, stem: PicturesStem) -> TensorFile | None:
    if stem not in manifest.pictures:
        return None
    name = pictures_file(stem)
    return TensorFile(path / name, manifest.files[name], manifest.pictures_shapes(stem))


def _check_range(values: NDArray[np.generic], low: int, end: int, what: str, path: Path) -> None:
    if values.min() < low or values.max() >= end:
        raise BadArtefact(f"Atlas {short(path.name)}: its {what} lie outside {low} to {end - 1}.")


def _check_sparse(file: TensorFile, entry: LayerEntry, path: Path) -> None:
    ends = file["row_ends"]
    if (np.diff(ends, prepend=0) < 0).any() or ends[-1] != entry.nonzero:
        raise BadArtefact(f"Atlas {short(path.name)}: the rows of its features do not end where their values do.")
    if entry.nonzero:
        _check_range(file["features"], 0, entry.units, "features", path)


def _probe_images(path: Path, manifest: AtlasManifest) -> list[str]:
    try:
        images = json.loads(map_verified(path / PROBE, manifest.files[PROBE])[:])
    except ValueError as error:
        raise BadArtefact(f"Atlas {short(path.name)}: its list of probe images is not JSON.") from error
    if (
        not isinstance(images, list)
        or len(images) != manifest.probe.views
        or not all(isinstance(n, str) for n in images)
    ):
        raise BadArtefact(f"Atlas {short(path.name)}: its list of probe images does not name one image per row.")
    return images
