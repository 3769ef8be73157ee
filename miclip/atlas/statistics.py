"""Statistics of the units of a layer over the probe rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.atlas.forms import HISTOGRAM_BINS, TOP_IMAGES
from miclip.atlas.geometry import centre_texts, normalise

_BLOCK = 256  # units at a time: bounds the float64 copy of a memory-mapped matrix


def compute_statistics(
    activations: NDArray[np.floating], image_ids: NDArray[np.integer] | None = None
) -> dict[str, NDArray[np.generic]]:
    """Compute the statistics that a ``LayerAtlas`` holds.

    Args:
        activations: Pooled activations [N, d] of any float dtype; may be a memory map.
        image_ids: Image [N] that every row is a view of, so that the top images are distinct; None: all are.

    Returns:
        ``mean``, ``std``, ``maximum``, ``fraction_nonzero`` [d] float32, ``histogram_counts`` [d, 32] int32,
        ``histogram_edges`` [d, 33] float32, ``top_images`` [d, 16] int32 (rows, strongest first, -1 for none) and
        ``top_values`` [d, 16] float32 (0 for none).
    """
    rows, units = activations.shape
    ids = np.arange(rows) if image_ids is None else np.asarray(image_ids)
    order = np.argsort(ids, kind="stable")
    starts = np.flatnonzero(np.diff(ids[order], prepend=ids[order][0] - 1))
    blocks = [
        _block(np.asarray(activations[:, at : at + _BLOCK], np.float64), order, starts)
        for at in range(0, units, _BLOCK)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _block(
    values: NDArray[np.float64], order: NDArray[np.intp], starts: NDArray[np.intp]
) -> dict[str, NDArray[np.generic]]:
    counts, edges = zip(*(np.histogram(column, HISTOGRAM_BINS) for column in values.T), strict=True)
    images, strengths = _top(values[order], order, starts)
    return {
        "mean": values.mean(0).astype(np.float32),
        "std": values.std(0).astype(np.float32),
        "maximum": values.max(0).astype(np.float32),
        "fraction_nonzero": (values != 0).mean(0).astype(np.float32),
        "histogram_counts": np.stack(counts).astype(np.int32),
        "histogram_edges": np.stack(edges).astype(np.float32),
        "top_images": images,
        "top_values": strengths,
    }


def _top(
    values: NDArray[np.float64], order: NDArray[np.intp], starts: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Strongest row of each of the strongest images; ``values`` [N, d] is sorted by image."""
    best = np.maximum.reduceat(values, starts, axis=0)
    ends = np.append(starts[1:], len(values))
    ranked = np.argsort(-best, axis=0, kind="stable")[:TOP_IMAGES].T
    images = np.full((values.shape[1], TOP_IMAGES), -1, np.int32)
    strengths = np.zeros((values.shape[1], TOP_IMAGES), np.float32)
    for unit, groups in enumerate(ranked):
        for place, group in enumerate(groups):
            row = starts[group] + int(np.argmax(values[starts[group] : ends[group], unit]))
            images[unit, place], strengths[unit, place] = order[row], values[row, unit]
    return images, strengths


def null_statistics(
    encoder: NDArray[np.floating],
    text_embeddings: NDArray[np.floating],
    count: int = 2000,
    seed: int = 0,
    *,
    text_mean: NDArray[np.floating] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """How well random directions of a layer match the best of some texts: what a label's score must beat.

    A direction ``g ~ N(0, I_d)`` is mapped into the shared space by ``encoder`` and compared with the centred texts,
    as descriptions are.

    Args:
        encoder: Linear map [D, d]; for the null of another unit embedding, ``layer.embedding(kind).T``.
        text_embeddings: Embeddings [K, D] of the labels or of another vocabulary.
        count: Number of directions.
        seed: Seed of the directions.
        text_mean: Mean [D] subtracted from the texts; None: their own.

    Returns:
        ``null_mean``, ``null_std`` (scalars) and ``null_quantiles`` [101] (percentiles 0 to 100), float32.
    """
    texts = centre_texts(text_embeddings, np.mean(text_embeddings, axis=0) if text_mean is None else text_mean)
    directions = np.random.default_rng(seed).standard_normal((count, encoder.shape[1]), np.float32)
    mapped = normalise(directions @ np.asarray(encoder, np.float32).T)
    best = np.concatenate([(part @ texts.T).max(axis=1) for part in np.array_split(mapped, max(1, count // 250))])
    return {
        "null_mean": np.float32(best.mean()).reshape(()),
        "null_std": np.float32(best.std()).reshape(()),
        "null_quantiles": np.percentile(best, np.arange(101)).astype(np.float32),
    }


def contrast(
    scores: NDArray[np.floating], mean: NDArray[np.floating], std: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return by how many standard deviations causal scores exceed the unit's mean; 0 for a unit without influence."""
    above: NDArray[np.float32] = np.asarray(scores, np.float32) - mean
    return np.divide(above, std, out=np.zeros_like(above), where=np.asarray(std) > 0)


def null_contrast(effects: NDArray[np.floating], count: int = 2000, seed: int = 0) -> NDArray[np.float32]:
    """How far the best label stands out for random mixtures of a layer's units: what a label's contrast must beat.

    Attributions add up, so the causal scores of a mixture ``g ~ N(0, I_d)`` of units are the same mixture of theirs.

    Args:
        effects: Causal score of every label and unit [K, d]; units count alike, whatever their strength.
        count: Number of mixtures.
        seed: Seed of the mixtures.

    Returns:
        Percentiles 0 to 100 [101] of the best label's contrast, float32.
    """
    alike = contrast(effects, effects.mean(axis=0), effects.std(axis=0))
    mixed = np.random.default_rng(seed).standard_normal((count, alike.shape[1]), np.float32) @ alike.T
    best = contrast(mixed.max(axis=1), mixed.mean(axis=1), mixed.std(axis=1))
    return np.percentile(best, np.arange(101)).astype(np.float32)
