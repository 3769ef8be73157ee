"""Activation vectors of a layer at every position of every probe image, on disk: what a dictionary is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miclip.alignment.probe import CHUNK, ProbeSet
from miclip.errors import InvalidInput
from miclip.models.target import LOGITS, LayerKind, TargetModel
from miclip.progress import Report, Stage, StageKind, silent
from miclip.row_store import RowStore

_LARGEST = float(np.finfo(np.float16).max)


def activation_vectors(
    root: Path,
    model: TargetModel,
    layer: str,
    probe: ProbeSet,
    *,
    class_token_only: bool = False,
    report: Report = silent,
) -> Tensor:
    """Run the model over a probe set and return its activation vectors; goes on where an earlier run stopped.

    Args:
        root: Directory of all stores; this one's folder is named by the hash of its inputs.
        model: The target model.
        layer: A layer of neurons, not the logits.
        probe: The images.
        class_token_only: Keep the first token of each image only.
        report: Told of progress.

    Returns:
        float16 ``[images, P, d]``, memory-mapped.

    Raises:
        InvalidInput: the layer cannot have a dictionary.
        NotFound: there is no such layer.
    """
    check_layer(model, layer, class_token_only=class_token_only)
    inputs = [model.weights_sha256, probe.sha256, layer, class_token_only]
    rows = RowStore(root, inputs, len(probe.names), "vectors-")

    def compute(start: int, stop: int) -> dict[str, NDArray[np.float16]]:
        batch = torch.stack([model.preprocess(image) for image in probe.load(start, stop)])
        vectors = model.vectors(batch, layer)
        values = (vectors[:, :1] if class_token_only else vectors).numpy()
        return {"vectors": np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)}

    rows.fill(compute, chunk=CHUNK, stage=Stage(StageKind.ACTIVATIONS), report=report)
    return torch.from_numpy(rows.read("vectors"))


def check_layer(model: TargetModel, layer: str, *, class_token_only: bool = False) -> None:
    """Raise InvalidInput unless a dictionary, or one of the first token alone, may be on the layer."""
    allowed = [name for name, one in model.layers.items() if name != LOGITS and one.kind is not LayerKind.FEATURES]
    if layer not in allowed:
        names = ", ".join(allowed)
        text = f"layer: {layer[:80]!r} cannot have a dictionary; the layers of {model.name} that can are {names}."
        raise InvalidInput(text, field="layer", allowed=names)
    if class_token_only and model.layers[layer].kind is not LayerKind.TOKENS:
        text = f"class_token_only: layer {layer!r} of {model.name} has no tokens."
        raise InvalidInput(text, field="class_token_only", allowed="false for layers without tokens")
