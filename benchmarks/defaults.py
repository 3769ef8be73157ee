"""The table that chose the defaults: ``python benchmarks/defaults.py [MODEL…]``.

One setting is changed at a time. Every figure is measured on the validation style, which neither targets, CLIP nor
alignments saw, and is the mean over three seeds, each with probe views of its own. Printed are the share of labels that
name one of the five classes which the unit drives most on that style (no label abstains), and the change of accuracy,
in points, when the five units localized for a class name or a synonym are doubled or removed, weighted by its
specificity; 48 queries of a kind, evenly spread, or 24 in the middle. Nothing of the held-out style is read. What
weighs the outputs is chosen by benchmarks/localisation_defaults.py.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

os.environ.setdefault("MICLIP_LABEL_SEEDS", "1")  # no label is judged here: see benchmarks/labels.py

from judged import judging_probe

from miclip.alignment import AlignmentConfig, EncoderSettings, align_model
from miclip.alignment.labels import driven_classes
from miclip.atlas import Atlas
from miclip.catalogue import load_clip, load_target
from miclip.demo.concepts import VALIDATION_STYLE
from miclip.demo.probe import demo_probe, held_out
from miclip.demo.queries import demo_queries
from miclip.evaluation.intervention import Laboratory, intervene
from miclip.evaluation.queries import class_names, spread
from miclip.evaluation.subject import Subject
from miclip.evaluation.summary import SIGNS, summarise
from miclip.kinds import LocalizationMethod
from miclip.models.clip import Clip
from miclip.retrieval.search import AtlasSearcher

LAYERS = {"emoji-resnet": ("layer3", "layer4"), "emoji-vit": ("blocks.2", "norm")}
"""A middle and the penultimate layer."""
TOP = 5


@dataclass(frozen=True)
class Variant:
    """A row of the table: what is other than the default.

    Attributes:
        name: The row's name.
        encoder: Settings of the encoders.
        points: Points of the attributions.
        method: How units are ranked.
    """

    name: str
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    points: int = 1
    method: LocalizationMethod = "attribution"


def variants() -> Iterator[Variant]:
    """Yield the rows; those that share an alignment stand together."""
    yield Variant("default")
    for method in ("filter", "pattern", "causal"):
        yield Variant(f"unit embedding: {method}", method=method)
    for output, given in ((1.0, 0.0), (1.0, 1.0), (0.5, 1.0), (0.0, 1.0)):
        chosen = EncoderSettings(output_weight=output, input_weight=given)
        yield Variant(f"loss weights: text {output}, image {given}", chosen)
    for steps in (100, 400):
        yield Variant(f"steps: {steps}", EncoderSettings(steps=steps))
    for temperature in (0.05, 0.2):
        yield Variant(f"contrastive temperature: {temperature}", EncoderSettings(temperature=temperature))
    for points in (4, 8):
        yield Variant(f"points of the gradient: {points}", points=points)


class Bench:
    """One layer of a target with everything that judges it."""

    def __init__(self, subject: Subject, layer: str, clip: Clip, store: Path) -> None:
        views = 1 if layer == subject.middle else 4
        self.subject, self.layer = subject, layer
        self._laboratory = Laboratory(subject.model, layer, subject.preprocessed(), subject.labels, views)
        self._right = driven_classes(judging_probe(subject.model, clip, subject.images, layer, store))
        most = 24 if layer == subject.middle else 48
        typed = {"names": class_names(subject.model.labels), "synonyms": demo_queries()["synonyms"]}
        queries = {kind: spread(some, most) for kind, some in typed.items()}
        self._queries = {
            kind: (some, clip.embed_texts([query.text for query in some])) for kind, some in queries.items()
        }

    def figures(self, atlas: Atlas, variant: Variant) -> dict[str, object]:
        """Return the share of right labels in percent, and the changes by kind of query and scale."""
        searcher = AtlasSearcher(atlas)
        kind = None if variant.method == "attribution" else variant.method
        units = range(len(self._right))
        found = searcher.describe(self.layer, units, searcher.labels, 1, kind)
        named = np.array([one.concepts[0].index for one in found])
        figures: dict[str, object] = {"labels": 100 * (named[:, None] == self._right).any(axis=1).mean()}
        for name, (queries, texts) in self._queries.items():
            hits = searcher.localize(texts, [self.layer], TOP, method=variant.method)
            ranking = np.array([[unit.unit for unit in hit.units] for hit in hits])
            for scale, changes in intervene(
                self._laboratory, ranking, [query.classes for query in queries], TOP
            ).items():
                figures[f"{scale} {name}"] = changes
        return figures


def measure(benches: Sequence[Bench], variant: Variant, seeds: int, clip: Clip, store: Path) -> None:
    """Align by every seed, and print a row a layer."""
    model, layers = benches[0].subject.model, tuple(bench.layer for bench in benches)
    found: dict[str, list[dict[str, object]]] = {}
    for seed in range(seeds):
        config = AlignmentConfig(layers, replace(variant.encoder, seed=seed), points=variant.points, stands_alone=False)
        with tempfile.TemporaryDirectory() as root:
            atlas_id = align_model(model, clip, demo_probe(seed), config, store=store, atlas_root=Path(root))
            atlas = Atlas.open(Path(root), atlas_id)
            for bench in benches:
                found.setdefault(bench.layer, []).append(bench.figures(atlas, variant))
    for layer, runs in found.items():
        labels = np.mean([run["labels"] for run in runs])
        signs = {key: SIGNS[key.split()[0]] for key in runs[0] if key != "labels"}
        cells = [summarise([run[key] for run in runs], sign).weighted.value for key, sign in signs.items()]
        print(f"{layer:9} {variant.name:34} {labels:7.1f} " + " ".join(f"{cell:+9.2f}" for cell in cells), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(LAYERS), metavar="MODEL")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "miclip-defaults")
    chosen = parser.parse_args()
    clip, images = load_clip(), held_out(VALIDATION_STYLE)
    for name in chosen.models:
        subject = Subject(load_target(name, "cpu"), LAYERS[name], images, images.labels)
        benches = [Bench(subject, layer, clip, chosen.store) for layer in subject.layers]
        print(f"\n{name}\n{'layer':9} {'changed':34} {'labels %':>7} {'×2 names':>9} {'×0 names':>9} "
              f"{'×2 synon.':>9} {'×0 synon.':>9}", flush=True)  # fmt: skip
        for variant in variants():
            measure(benches if variant.points == 1 else benches[:1], variant, chosen.seeds, clip, chosen.store)


if __name__ == "__main__":
    main()
