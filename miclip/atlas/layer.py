"""One layer of an atlas."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from miclip.atlas.geometry import normalise
from miclip.atlas.manifest import LayerEntry
from miclip.atlas.tensors import TensorFile
from miclip.errors import NotAligned
from miclip.kinds import UnitEmbedding

Float32 = NDArray[np.float32]
Float16 = NDArray[np.float16]
Int32 = NDArray[np.int32]


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

    @property
    def coordinates(self) -> Float16 | None:
        """Place of every unit in a plane where near is alike [d, 2], -1 to 1; None where it is not known."""
        return self._file.get("coordinates")
