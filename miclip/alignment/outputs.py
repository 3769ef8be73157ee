"""What the target's outputs look like, and what drives each: how a text finds units, also where few images help.

A text is compared with the outputs, not with single probe images, so every output needs two things, named or not:

- its *prototype* in the shared space: the mean CLIP image embedding of the probe images, each weighed by how probable
  the model finds the output there, among all images: ``softmax_j(log p_k(x_j))``. No image need be predicted as it;
- its *effects*: the mean attribution of its margin to every unit on the images that show it. These are the images
  predicted as it; where there are fewer than ``settings().output_images``, the images where its margin is greatest,
  each of which costs a pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from miclip.alignment.probe import CHUNK, ActivationStore, ProbeSet
from miclip.atlas import normalise
from miclip.models.attribution import attribute
from miclip.models.target import TargetModel
from miclip.progress import Report, Stage, StageKind, silent
from miclip.row_store import RowStore
from miclip.settings import settings

LEAST_PASSES = 1024
"""Further passes that any alignment may make; more only where it has more probe images."""
_BLOCK = 128  # outputs whose weights are held at a time


def output_prototypes(logits: NDArray[np.floating], images: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the prototype of every output, float32 ``[K, D]``, centred by the images' mean, of length 1.

    Args:
        logits: Of every probe image, ``[N, K]``.
        images: Their CLIP embeddings ``[N, D]``, normalised.
    """
    exact = np.asarray(images, np.float32)
    centred = exact - exact.mean(axis=0)
    likely = log_softmax(np.asarray(logits, np.float64), axis=1)
    blocks = [softmax(likely[:, at : at + _BLOCK], axis=0).T.astype(np.float32) @ centred
              for at in range(0, likely.shape[1], _BLOCK)]  # fmt: skip
    return normalise(np.concatenate(blocks))


@dataclass(frozen=True)
class Wanted:
    """Passes that the outputs need which too few images are predicted as.

    Attributes:
        outputs: The outputs, int64 ``[M]``, increasing.
        rows: The probe rows where the margin of each is greatest, int64 ``[M, R]``.
    """

    outputs: NDArray[np.int64]
    rows: NDArray[np.int64]


def wanted_passes(logits: NDArray[np.floating], images: int, passes: int) -> Wanted:
    """Return the outputs with fewer than ``images`` rows predicted as them, and the rows to attribute them on.

    Args:
        logits: Of every probe row, ``[N, K]``.
        images: Rows an output, fewer where ``passes`` does not allow so many.
        passes: Passes at most; outputs beyond it, those with the smallest margins, are left out.
    """
    exact = np.asarray(logits, np.float32)
    predicted = np.bincount(exact.argmax(axis=1), minlength=exact.shape[1])
    outputs = np.flatnonzero(predicted < images)
    margins = exact[:, outputs] - exact.mean(axis=1, keepdims=True)
    if len(outputs) > passes:
        kept = np.sort(np.argsort(-margins.max(axis=0), kind="stable")[:passes])
        outputs, margins = outputs[kept], margins[:, kept]
    each = min(images, len(exact), max(1, passes // max(1, len(outputs))))
    return Wanted(outputs, np.argsort(-margins, axis=0, kind="stable")[:each].T.astype(np.int64))


class OutputStore:
    """The passes that :func:`wanted_passes` asks for, on disk in the activation store whose images they use.

    Args:
        activations: The finished activation store.
        model: The target model.
        probe: The probe set.
        layers: Layers to attribute to.
        points: Points at which the gradient is taken.
    """

    def __init__(
        self, activations: ActivationStore, model: TargetModel, probe: ProbeSet, layers: Sequence[str], points: int = 1
    ) -> None:
        self._model, self._probe, self._layers, self._points = model, probe, tuple(layers), points
        config, self._record = settings(), activations.read()
        passes = min(config.output_passes, max(LEAST_PASSES, len(self._record.logits)))
        self._wanted = wanted_passes(self._record.logits, config.output_images, passes)
        inputs = [activations.directory.name, self._wanted.outputs.tolist(), self._wanted.rows.tolist()]
        self._store = RowStore(activations.directory, inputs, len(self._wanted.outputs), prefix="outputs-")

    def fill(self, report: Report = silent, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Compute every output that is not done; returns early, keeping what is done, once ``cancelled``."""
        if len(self._wanted.outputs):
            chunk = max(1, CHUNK // self._wanted.rows.shape[1])
            stage = Stage(StageKind.OUTPUTS)
            self._store.fill(self._compute, chunk=chunk, stage=stage, report=report, cancelled=cancelled)

    def effects(self, layer: str) -> NDArray[np.float32]:
        """Return the effects of every output on the units of a layer, float32 ``[K, d]``, in logits.

        Raises:
            InvalidInput: the store is not filled.
        """
        record = self._record
        means = mean_by_label(record.attributions[layer], record.logits.argmax(axis=1), record.logits.shape[1])
        if len(self._wanted.outputs):
            means[self._wanted.outputs] = self._store.read(f"effects.{layer}")
        return means

    def _compute(self, start: int, stop: int) -> dict[str, NDArray[np.float32]]:
        rows = self._wanted.rows[start:stop]
        images = {row: self._model.preprocess(self._probe.load(row, row + 1)[0]) for row in np.unique(rows).tolist()}
        batch = torch.stack([images[row] for row in rows.ravel().tolist()])
        classes = torch.from_numpy(np.repeat(self._wanted.outputs[start:stop], rows.shape[1]))
        found = attribute(self._model, batch, self._layers, self._points, classes=classes)[2]
        return {f"effects.{layer}": values.reshape(*rows.shape, -1).mean(dim=1).float().cpu().numpy()
                for layer, values in found.items()}  # fmt: skip


def mean_by_label(values: NDArray[np.floating], predicted: NDArray[np.integer], labels: int) -> NDArray[np.float32]:
    """Return the mean of rows ``[N, d]`` by their predicted label ``[N]``, float32 ``[K, d]``; zero where none is."""
    means = np.zeros((labels, values.shape[1]), np.float32)
    for label in np.unique(predicted).tolist():
        means[label] = values[predicted == label].mean(axis=0)
    return means
