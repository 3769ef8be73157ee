"""What units of a layer drive on images that no alignment saw: the judge of labels in the benchmarks here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miclip.alignment import ActivationStore, ProbeSet
from miclip.alignment.labels import LayerProbe
from miclip.models.clip import Clip
from miclip.models.target import TargetModel


def judging_probe(model: TargetModel, clip: Clip, images: ProbeSet, layer: str, store: Path) -> LayerProbe:
    """Run ``images`` through the model, or read what an earlier run recorded in ``store``."""
    pass_over = ActivationStore(store, model, clip, images, [layer])
    pass_over.fill()
    record = pass_over.read()
    total = len(record.logits)
    return LayerProbe(
        "causal", np.asarray(record.activations[layer]), np.asarray(record.attributions[layer]),
        record.image_embeddings, record.logits.argmax(axis=1).astype(np.int64), np.arange(total),
        np.ones(total, bool), record.logits, clip.embed_texts(list(model.labels)),
    )  # fmt: skip
