"""What judges labels: the probe images recoloured, and whether CLIP and the model speak of the same images at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.agreement import agreement, known
from miclip.alignment.labels import FOLDS, Judges, fold_images
from miclip.alignment.probe import ProbeRecord
from miclip.promise import LEAST_SHOWN, Verdict


def judges_of(recoloured: ProbeRecord, layer: str, sources: NDArray[np.int64]) -> Judges:
    """Return what judges the labels of a layer.

    Args:
        recoloured: The pass over the recoloured images.
        layer: The layer.
        sources: Image that every row of the pass is a view of, ``[M]``.
    """
    predicted = recoloured.logits.argmax(axis=1).astype(np.int64)
    return Judges(np.asarray(recoloured.attributions[layer]), predicted, sources)


def judge_images(record: ProbeRecord, sources: NDArray[np.int64], labels: NDArray[np.float32], seed: int) -> Verdict:
    """Judge whether the probe images can tell what units mean; an image counts by its first view.

    Args:
        record: The pass over them.
        sources: Image that every row is a view of, ``[N]``.
        labels: ``E_c`` of every label, normalised, ``[K, D]``.
        seed: Of the parts that judge labels, and of chance.
    """
    images, first = np.unique(sources, return_index=True)
    predicted = record.logits.argmax(axis=1).astype(np.int64)[first]
    share, chance, p_value = agreement(record.image_embeddings[first], predicted, labels, seed)
    counts = np.bincount(predicted, minlength=len(labels))
    in_parts = np.zeros((len(labels), FOLDS), bool)
    in_parts[predicted, fold_images(predicted, images, seed)[images]] = True
    shown = int((counts > 0).sum())
    return Verdict(
        images=len(images),
        labels=len(labels),
        predicted=shown,
        judged=int((in_parts.sum(axis=1) >= LEAST_SHOWN).sum()),
        images_a_label=float(np.median(counts[counts > 0])),
        agreement=share,
        chance=chance,
        p_value=p_value,
        known=known(p_value, len(labels), shown),
    )
