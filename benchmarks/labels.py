"""How often labels are right, and whether the calibrated threshold holds: ``python benchmarks/labels.py [MODEL…]``.

A label is right when it names one of the five classes that the unit drives most, by class-mean attribution (of the
logits: its own class), on images that no alignment saw: of the validation style, by which settings were chosen, and of
the held-out style, by which nothing was. Then the share of labels that are kept (no abstention), and how many of those
are right. Means over three seeds, each an alignment on probe views of its own; a share of kept labels counts the seeds
that keep any.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from judged import judging_probe
from numpy.typing import NDArray

from miclip.alignment import AlignmentConfig, EncoderSettings, align_model
from miclip.alignment.labels import driven_classes
from miclip.atlas import Atlas
from miclip.catalogue import load_clip, load_target
from miclip.demo.concepts import HELD_OUT_STYLE, VALIDATION_STYLE
from miclip.demo.probe import demo_probe, held_out
from miclip.evaluation.methods import class_means, dense
from miclip.evaluation.methods.clip_dissect import clip_dissect
from miclip.evaluation.methods.semanticlens import semantic_lens
from miclip.models.target import LOGITS
from miclip.retrieval.results import Description
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings

LAYERS = {"emoji-resnet": ("layer3", "layer4", LOGITS), "emoji-vit": ("blocks.2", "norm", LOGITS)}
PRECISIONS = (0.8, 0.85, 0.9)
SHORTLISTS = (8, 16, 32, 64)
JUDGES = ("validation", "held out")

Labels = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Class of every unit ``[d]``, and which are kept ``[d]``."""


def labels(atlas: Atlas, layer: str) -> Iterator[tuple[str, Labels]]:
    """Yield every way to label the layer's units."""
    searcher, data = AtlasSearcher(atlas), atlas.layer(layer)
    everything = np.ones(data.entry.units, bool)
    texts, images = np.asarray(atlas.label_embeddings), np.asarray(atlas.image_embeddings, np.float32)
    activations = np.asarray(data.activations, np.float32)
    yield "CLIP-Dissect", (clip_dissect(activations, images, texts).argmax(axis=0), everything)
    yield "SemanticLens", (semantic_lens(activations, images, texts).argmax(axis=0), everything)
    predicted = np.asarray(atlas.predicted, np.int64)
    means = class_means(dense(data.attributions), predicted, len(atlas.manifest.labels))
    yield "argmax of class means", (means.argmax(axis=0), everything)
    units = range(data.entry.units)
    for kind in ("filter", "pattern", "causal"):
        yield f"cosine of {kind}", _labels(searcher.describe(layer, units, searcher.labels, 1, kind))
    for size in SHORTLISTS:
        with setting("MICLIP_DESCRIBE_SHORTLIST", size):
            yield f"shortlist of {size}", _labels(searcher.describe(layer, units, searcher.labels, 1))
    yield "default", _labels(searcher.describe(layer, units, searcher.labels, 1))


def _labels(found: list[Description]) -> Labels:
    return np.array([one.concepts[0].index for one in found]), np.array([not one.abstained for one in found])


def aligned(name: str, seed: int, precision: float, store: Path, root: Path) -> Atlas:
    """Align with a threshold for ``precision``; passes and encoders are shared by all precisions."""
    with setting("MICLIP_LABEL_PRECISION", precision):
        config = AlignmentConfig(LAYERS[name], EncoderSettings(seed=seed), stands_alone=False)
        target, probe = load_target(name, "cpu"), demo_probe(seed)
        return Atlas.open(root, align_model(target, load_clip(), probe, config, store=store, atlas_root=root))


@contextmanager
def setting(variable: str, value: float) -> Iterator[None]:
    """Set a setting of the process for a while."""
    os.environ[variable] = str(value)
    settings.cache_clear()
    try:
        yield
    finally:
        del os.environ[variable]
        settings.cache_clear()


def judges(name: str, layer: str, atlas: Atlas, store: Path) -> dict[str, NDArray[np.int64]]:
    """Return the classes that count as right by judge, int64 ``[d, n]``."""
    if layer == LOGITS:
        return dict.fromkeys(JUDGES, np.arange(len(atlas.manifest.labels))[:, None])
    found = {}
    for judge, style in zip(JUDGES, (VALIDATION_STYLE, HELD_OUT_STYLE), strict=True):
        found[judge] = driven_classes(
            judging_probe(load_target(name, "cpu"), load_clip(), held_out(style), layer, store)
        )
    return found


def figures(found: Labels, right: dict[str, NDArray[np.int64]]) -> list[float]:
    """Return shares in percent: right by judge, kept, right of the kept by judge."""
    named, kept = found
    hits = [(named[:, None] == right[judge]).any(axis=1) for judge in JUDGES]
    of_kept = [float(hit[kept].mean()) if kept.any() else float("nan") for hit in hits]
    return [100 * value for value in (*(float(hit.mean()) for hit in hits), float(kept.mean()), *of_kept)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(LAYERS), metavar="MODEL")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "miclip-labels")
    chosen = parser.parse_args()
    for name in chosen.models:
        rows: dict[tuple[str, str], list[list[float]]] = {}
        for seed in range(chosen.seeds):
            with tempfile.TemporaryDirectory() as root:
                for precision in PRECISIONS:
                    atlas = aligned(name, seed, precision, chosen.store, Path(root))
                    for layer in LAYERS[name]:
                        right = judges(name, layer, atlas, chosen.store)
                        for method, found in labels(atlas, layer):
                            known = method if method != "default" else f"default, for {100 * precision:.0f} %"
                            if method == "default" or precision == PRECISIONS[0]:
                                rows.setdefault((layer, known), []).append(figures(found, right))
        _show(name, rows)


def _show(name: str, rows: dict[tuple[str, str], list[list[float]]]) -> None:
    print(f"\n{name}: labels right, %\n{'':30} {'all units':^21} {'kept':>10} {'of those kept':^21}")
    print(f"{'layer':9} {'labels':20} " + " ".join(f"{judge:>10}" for judge in (*JUDGES, "%", *JUDGES)))
    for layer in LAYERS[name]:
        for (where, method), runs in rows.items():
            if where == layer:
                print(f"{layer:9} {method:20} " + " ".join(f"{value:10.1f}" for value in np.nanmean(runs, axis=0)))


if __name__ == "__main__":
    main()
