"""Probe sets, and the activation store: what a target model and CLIP make of every probe image, on disk.

A run that stops goes on where it was: see ``miclip.row_store``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miclip.errors import InvalidInput
from miclip.models.attribution import attribute
from miclip.models.clip import Clip
from miclip.models.target import TargetModel
from miclip.progress import Report, Stage, StageKind, silent
from miclip.row_store import RowStore

CHUNK = 64
"""Images per forward and backward pass, and between two records of progress."""


class ProbeSet(Protocol):
    """Images that a model is aligned on.

    Attributes:
        name: Short name, kept in the atlas.
        names: Name of every image, in order; with several views, all images of the first view come first.
        views: Views per source image; 1 when images are taken as they are.
        sha256: Hash of everything that determines the pixels.
        licence: Licence note of the images, kept in the atlas.
    """

    name: str
    names: tuple[str, ...]
    views: int
    sha256: str
    licence: str

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return images ``start`` to ``stop``, each uint8 ``[3, H, W]``."""
        ...


@dataclass(frozen=True)
class ProbeRecord:
    """What the store holds, memory-mapped.

    Attributes:
        logits: float32 ``[N, K]``.
        image_embeddings: ``E_i`` of every image, normalised, float16 ``[N, D]``.
        activations: Pooled activations by layer, float32 ``[N, d]``.
        attributions: Gradient of the predicted margin with respect to a gain on every unit, by layer, float32
            ``[N, d]``.
    """

    logits: NDArray[np.float32]
    image_embeddings: NDArray[np.float16]
    activations: dict[str, NDArray[np.float32]]
    attributions: dict[str, NDArray[np.float32]]


class ActivationStore:
    """One pass of a target model and CLIP over a probe set.

    Args:
        root: Directory of all stores; this one's folder is named by the hash of its inputs.
        model: The target model.
        clip: The CLIP model.
        probe: The probe set.
        layers: Layers to capture.
        points: Points at which the gradient of an attribution is taken: see ``miclip.models.attribution``.
    """

    def __init__(
        self, root: Path, model: TargetModel, clip: Clip, probe: ProbeSet, layers: Sequence[str], points: int = 1
    ) -> None:
        self._model, self._clip, self._probe, self._layers = model, clip, probe, tuple(layers)
        self._points = points
        dictionaries = [model.dictionaries[layer].sha256 for layer in layers if layer in model.dictionaries]
        further = [*dictionaries, *([points] if points > 1 else [])]
        inputs = [model.weights_sha256, clip.clip_id, probe.sha256, list(layers), *further]
        self._rows = RowStore(root, inputs, len(probe.names))
        self.directory = self._rows.directory

    @property
    def done(self) -> int:
        """Images already recorded."""
        return self._rows.done

    def fill(
        self,
        report: Report = silent,
        cancelled: Callable[[], bool] = lambda: False,
        stage: Stage = Stage(StageKind.ACTIVATIONS),  # noqa: B008  (frozen)
    ) -> None:
        """Record every image that is not recorded yet; returns early, keeping what is done, once ``cancelled``."""
        self._rows.fill(
            lambda start, stop: self._compute(self._probe.load(start, stop)),
            chunk=CHUNK, stage=stage, report=report, cancelled=cancelled,
        )  # fmt: skip

    def read(self) -> ProbeRecord:
        """Return the finished store, memory-mapped; raises InvalidInput when it is not finished."""
        return ProbeRecord(
            self._rows.read("logits"),
            self._rows.read("images"),
            {layer: self._rows.read(f"activations.{layer}") for layer in self._layers},
            {layer: self._rows.read(f"attributions.{layer}") for layer in self._layers},
        )

    def _compute(self, images: list[Tensor]) -> dict[str, NDArray[Any]]:
        batch = torch.stack([self._model.preprocess(image) for image in images])
        logits, activations, attributions = attribute(self._model, batch, self._layers, self._points)
        rows = {
            "logits": logits.float().cpu().numpy(),
            "images": self._clip.embed_images(images).astype(np.float16),
        }
        rows |= {f"activations.{layer}": values.float().cpu().numpy() for layer, values in activations.items()}
        rows |= {f"attributions.{layer}": values.float().cpu().numpy() for layer, values in attributions.items()}
        for key, values in rows.items():
            if not np.isfinite(values).all():
                text = f"weights: {self._model.name} gives numbers that are not finite ({key}); are its weights broken?"
                raise InvalidInput(text, field="weights", allowed="weights that give finite outputs")
        return rows
