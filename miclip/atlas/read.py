"""Reading an atlas: everything is verified when it is opened, and nothing is copied into memory."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from miclip.atlas.geometry import normalise
from miclip.atlas.manifest import (
    MANIFEST,
    PROBE,
    SHARED_TENSORS,
    AtlasManifest,
    LayerEntry,
    from_bytes,
    shared_file,
    short,
)
from miclip.atlas.tensors import TensorFile, map_verified
from miclip.errors import BadArtefact, NotAligned
from miclip.kinds import UnitEmbedding

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


class LayerAtlas:
    """What is known of one layer's d units; arrays are read-only views into memory maps.

    Attributes:
        entry: The layer's entry in the manifest.
    """

    def __init__(self, entry: LayerEntry, file: TensorFile) -> None:
        self.entry, self._file = entry, file

    @property
    def encoder(self) -> Float32:
        """Neuron encoder E_n [D, d], up to a factor: ``z ∝ encoder @ (a - centre)``."""
        if self.entry.kind == "features":
            raise NotAligned(f"Features are encoded through their layer {self.entry.base!r}.", field="layer")
        return np.asarray(self._file["encoder"], np.float32)

    @property
    def centre(self) -> Float32:
        """Mean activation [d] that centres z; not of a layer of features, nor its encoder."""
        return self._file["centre"]

    @property
    def filter(self) -> Float32 | Float16:
        """Filter embedding of every unit [d, D], not normalised: ``E_n(e_i)``, of a feature ``E_n(W_dec[i])``."""
        return self._file["filter"] if self.entry.kind == "features" else self.encoder.T

    @property
    def pattern(self) -> Float16:
        """Pattern embedding of every unit [d, D], ``cov_j(a_ij, z_j)``, not normalised."""
        return self._file["pattern"]

    @property
    def causal(self) -> Float16:
        """Causal embedding of every unit [d, D], ``cov_j(r_ij, z_j)``, not normalised."""
        return self._file["causal"]

    def embedding(self, kind: UnitEmbedding | None = None) -> Float32:
        """Return the unit embeddings [d, D] of ``kind`` (default: the layer's); rows have length 1, or 0 if dead."""
        return normalise(getattr(self, kind or self.entry.unit_embedding))

    @property
    def activations(self) -> Float16:
        """Pooled activation of every probe row [N, d]; of features a dense copy, made anew at every call."""
        return self._rows("activation_values").toarray() if self._sparse else self._file["activations"]

    @property
    def attributions(self) -> Float16:
        """Attribution of every unit to the prediction, by probe row [N, d], in logits; of features a dense copy."""
        return self._rows("attribution_values").toarray() if self._sparse else self._file["attributions"]

    @cached_property
    def attribution_rows(self) -> Float16 | csr_array:
        """Attributions [N, d] as they are stored: a memory map, or of features a sparse array of float32."""
        return self._rows("attribution_values") if self._sparse else self._file["attributions"]

    @property
    def _sparse(self) -> bool:
        return self.entry.kind == "features"

    def _rows(self, values: str) -> csr_array:
        ends = np.concatenate([[0], self._file["row_ends"]])
        shape = (len(ends) - 1, self.entry.units)
        return csr_array((self._file[values].astype(np.float32), self._file["features"], ends), shape)

    @property
    def mean(self) -> Float32:
        """Mean activation [d]."""
        return self._file["mean"]

    @property
    def std(self) -> Float32:
        """Standard deviation of the activation [d]."""
        return self._file["std"]

    @property
    def maximum(self) -> Float32:
        """Largest activation [d]."""
        return self._file["maximum"]

    @property
    def fraction_nonzero(self) -> Float32:
        """Share of probe rows with an activation other than 0 [d], 0 to 1."""
        return self._file["fraction_nonzero"]

    @property
    def histogram_counts(self) -> Int32:
        """Probe rows per bin of the activation [d, 32]."""
        return self._file["histogram_counts"]

    @property
    def histogram_edges(self) -> Float32:
        """Edges of the bins [d, 33], increasing."""
        return self._file["histogram_edges"]

    @property
    def top_images(self) -> Int32:
        """Probe rows that activate the unit most [d, 16], strongest first; -1 where there are fewer."""
        return self._file["top_images"]

    @property
    def top_values(self) -> Float32:
        """Activations of ``top_images`` [d, 16]."""
        return self._file["top_values"]

    @property
    def null_mean(self) -> float:
        """Mean over random directions of the best label's cosine."""
        return float(self._file["null_mean"])

    @property
    def null_std(self) -> float:
        """Standard deviation over random directions of the best label's cosine."""
        return float(self._file["null_std"])

    @property
    def null_quantiles(self) -> Float32:
        """Percentiles 0 to 100 [101] of the best label's cosine over random directions."""
        return self._file["null_quantiles"]

    @property
    def effect_mean(self) -> Float32 | None:
        """Mean of the unit's causal scores over the model's labels [d], in logits; None where it is not known."""
        return self._file.get("effect_mean")

    @property
    def effect_std(self) -> Float32 | None:
        """Standard deviation of the same [d]; 0 for a unit without influence."""
        return self._file.get("effect_std")

    @property
    def null_contrast(self) -> Float32 | None:
        """Percentiles 0 to 100 [101] of the best label's contrast over random mixtures of units; None if not known."""
        return self._file.get("null_contrast")

    @property
    def stability(self) -> Float32 | None:
        """Share of further encoders that give the unit the same label [d], 0 to 1; None where it is not known."""
        return self._file.get("stability")


class Atlas:
    """An opened, verified atlas. Immutable; safe to share between threads.

    Attributes:
        atlas_id: SHA-256 of the manifest.
        manifest: What the atlas says of itself.
        probe_images: Name of the probe image of every row.
    """

    def __init__(
        self,
        atlas_id: str,
        manifest: AtlasManifest,
        shared: TensorFile,
        layers: dict[str, LayerAtlas],
        images: list[str],
    ) -> None:
        self.atlas_id, self.manifest, self.probe_images = atlas_id, manifest, images
        self._shared, self._layers = shared, layers

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


def _contents(path: Path, manifest: AtlasManifest) -> tuple[TensorFile, dict[str, LayerAtlas], list[str]]:
    shared = TensorFile(path / shared_file(), manifest.files[shared_file()], manifest.shapes(SHARED_TENSORS))
    _check_range(shared["predicted"], 0, len(manifest.labels), "predicted labels", path)
    layers = {}
    for entry in manifest.layers:
        file = TensorFile(path / entry.file, manifest.files[entry.file], *manifest.layer_shapes(entry))
        _check_range(file["top_images"], -1, manifest.probe.views, "top images", path)
        if entry.kind == "features":
            _check_sparse(file, entry, path)
        layers[entry.name] = LayerAtlas(entry, file)
    return shared, layers, _probe_images(path, manifest)


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
