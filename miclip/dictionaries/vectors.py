"""Activation vectors of a layer at every position of every probe image, on disk: what a dictionary is trained on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from miclip.alignment.probe import CHUNK, ProbeSet
from miclip.errors import InvalidInput
from miclip.models.target import LOGITS, LayerKind, TargetModel
from miclip.progress import Progress, Report, Stage, StageKind, silent


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
    folder = root / f"vectors-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]}"
    folder.mkdir(parents=True, exist_ok=True)
    mark, path, total = folder / "done.json", folder / "vectors.npy", len(probe.names)
    done = int(json.loads(mark.read_text())["done"]) if mark.exists() and path.exists() else 0
    kept = np.lib.format.open_memmap(path, mode="r+") if done else None
    for start in range(done, total, CHUNK):
        stop = min(start + CHUNK, total)
        batch = torch.stack([model.preprocess(image) for image in probe.load(start, stop)])
        found = model.vectors(batch, layer)
        values = (found[:, :1] if class_token_only else found).numpy()
        if kept is None:
            kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(total, *values.shape[1:]))
        kept[start:stop] = np.clip(values, -65504, 65504)
        kept.flush()
        mark.write_text(json.dumps({"done": stop}))
        report(Progress(Stage(StageKind.ACTIVATIONS), stop, total))
    return torch.from_numpy(np.load(path, mmap_mode="r+", allow_pickle=False))


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
