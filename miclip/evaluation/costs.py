"""The cost of aligning one layer and of every baseline, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from miclip.alignment import ProbeSet
from miclip.alignment.embedding import unit_embeddings
from miclip.alignment.encoder import EncoderSettings, train_encoder
from miclip.evaluation import baselines
from miclip.evaluation.cost import as_json, measure
from miclip.evaluation.dissection import MaskedProbe, network_dissection, spatial_maps
from miclip.models.clip import Clip
from miclip.models.target import TargetModel

BATCH = 64

NEEDS = {
    "mean_activation": ("activations",),
    "z_mean_activation": ("activations",),
    "clip_dissect": ("activations", "image embeddings", "text embeddings"),
    "semanticlens": ("activations", "image embeddings", "text embeddings"),
    "network_dissection": (),
    "filter": ("activations", "image embeddings", "text embeddings", "encoder"),
    "causal": ("attributions", "image embeddings", "text embeddings", "encoder"),
}
"""Steps that a method builds on; ``attributions`` give the activations too."""


def costs(model: TargetModel, layer: str, clip: Clip, probe: ProbeSet) -> dict[str, Any]:
    """Return ``{"layer", "images", "units", "steps": {STEP: Cost}, "needs": {METHOD: STEPs}}``.

    A method's own step is named like it; ``filter`` has none beyond the encoder, ``causal`` takes ``pattern`` along.
    """
    images = probe.load(0, len(probe.names))
    batch = torch.stack([model.preprocess(image) for image in images])
    steps: dict[str, Any] = {}

    def step(name: str, run: Callable[[], Any], flops: float | None = None) -> Any:
        value, steps[name] = measure(run, flops)
        return value

    parts, places = batch.split(BATCH), range(0, len(images), BATCH)
    model.attribute(parts[0], [layer])  # the first pass of a process is slow
    clip.embed_images(images[:BATCH])
    found = step("activations", lambda: [model.forward(part, [layer]) for part in parts])
    activations = torch.cat([output.activations[layer] for output in found]).numpy()
    predicted = torch.cat([output.logits for output in found]).argmax(dim=1).numpy().astype(np.int64)
    attributed = step("attributions", lambda: [model.attribute(part, [layer])[2][layer] for part in parts])
    attributions = torch.cat(attributed).numpy()
    embedded = step(
        "image embeddings",
        lambda: np.concatenate([clip.embed_images(images[at : at + BATCH]) for at in places]),
    )
    texts = step("text embeddings", lambda: clip.embed_texts(list(model.labels)))
    encoder = step("encoder", lambda: train_encoder(activations, predicted, texts, embedded, EncoderSettings()))
    rows, units = activations.shape
    classes, dim = texts.shape
    top = baselines.TOP_IMAGES
    step("mean_activation", lambda: baselines.class_means(activations, predicted, classes), rows * units)
    step("z_mean_activation", lambda: baselines.z_mean_activation(activations, predicted, classes), 5 * rows * units)
    step("clip_dissect", lambda: baselines.clip_dissect(activations, embedded, texts),
         2 * rows * classes * dim + 5 * top * units * classes)  # fmt: skip
    step("semanticlens", lambda: baselines.semantic_lens(activations, embedded, texts),
         2 * top * units * dim + 2 * classes * units * dim)  # fmt: skip
    step("causal", lambda: unit_embeddings(encoder, activations, attributions), 8 * rows * units * dim)
    if isinstance(probe, MaskedProbe):
        masks, labels = probe.masks(0, len(images)), probe.labels
        step("network_dissection", lambda: _dissected(model, layer, batch, masks, labels))
    return {"layer": layer, "images": rows, "units": units, "steps": as_json(steps),
            "needs": {name: list(needed) for name, needed in NEEDS.items()}}  # fmt: skip


def _dissected(model: TargetModel, layer: str, images: torch.Tensor, masks: torch.Tensor, labels: torch.Tensor) -> Any:
    maps = spatial_maps(model, layer, images)
    return None if maps is None else network_dissection(maps, masks, labels, len(model.labels))
