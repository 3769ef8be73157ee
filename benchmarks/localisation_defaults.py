"""Which parts and which τ localise best, and with how few images: ``python benchmarks/localisation_defaults.py``.

Aligns both demo models' penultimate and middle layers anew, and judges on the validation style, which no alignment saw:
by kind of query, the share of the most that five units can carry of the attribution of the classes meant, the mean over
both models, both layers, neurons and features. Prints three tables:

- the parts that weigh the model's outputs, and τ;
- the default beside what lacks a part of it: answers by probe rows (as of an atlas that does not know its outputs), by
  the mechanism that was the default before, by the text of labels alone (*output only*), with an encoder of random
  weights in the place of the trained one, and told the classes;
- the default and the answers by probe rows, by the number of probe images.

``--style twemoji`` judges on the held-out style: for a last look, not to choose. ``--update FILE`` writes what was
printed into a Markdown file between its markers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("MICLIP_LABEL_SEEDS", "1")  # no label is judged here: see benchmarks/labels.py

from hidden_classes import Forgetful
from judged import judging_probe

from miclip.atlas import Atlas
from miclip.catalogue import load_clip, load_target
from miclip.cli.evaluate import DEMO
from miclip.demo.concepts import VALIDATION_STYLE
from miclip.demo.probe import demo_probe, held_out
from miclip.demo.queries import demo_queries
from miclip.evaluation.methods import class_means, ranking
from miclip.evaluation.queries import class_names, coverage
from miclip.evaluation.run import align_seed
from miclip.evaluation.subject import Subject
from miclip.evaluation.unseen import Subset
from miclip.models.target import LOGITS
from miclip.retrieval.results import LocalizationMix
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings

MIXES = {
    "text": (0, 0, 1), "images": (0, 1, 0), "images + text": (0, 1, 1), "2 images + text": (0, 2, 1),
    "images + 2 text": (0, 1, 2), "mechanism + text": (1, 0, 1), "all three": (1, 1, 1),
}  # fmt: skip
TEMPERATURES = (0.03, 0.05)
VIEWS = (64, 128, 256, 512, 2560)
TOP = 5
MARKERS = ("<!-- localisation defaults -->", "<!-- end of localisation defaults -->")
Shares = dict[str, list[float]]
"""By kind of query, one a place."""
Find = Callable[[Atlas, Any, str], np.ndarray]
"""Atlas, texts [Q, D] and layer → units [Q, TOP]."""


class Bench:
    """One demo model, its queries and what its units carry on the style that judges."""

    def __init__(self, name: str, style: str, store: Path) -> None:
        self._clip, self._store, images = load_clip(), store, held_out(style)
        self._subject = Subject(load_target(name), DEMO[name], images, images.labels)
        self._layers = [place.name for place in self._subject.places() if place.layer != LOGITS]
        model = self._subject.model
        self._queries = {"names": class_names(model.labels), **demo_queries()}
        self._texts = {kind: self._clip.embed_texts([one.text for one in some]) for kind, some in self._queries.items()}
        self._carried = {}
        for layer in self._layers:
            judge = judging_probe(model, self._clip, images, layer, store)
            attributions = np.asarray(judge.attributions, np.float32)
            means = class_means(attributions, judge.predicted, len(model.labels))
            self._carried[layer] = {kind: coverage(some, len(means)) @ means for kind, some in self._queries.items()}

    def atlas(self, views: int, root: Path) -> Atlas:
        """Align on as many probe images, drawn at random."""
        probe = demo_probe(0)
        rows = np.sort(np.random.default_rng(0).permutation(len(probe.names))[:views])
        part = probe if views >= len(probe.names) else Subset(probe, rows)
        return align_seed(self._subject.model, self._clip, part, self._layers, 0, self._store, root, lambda *_: None)

    def measure(self, atlas: Atlas, find: Find, into: Shares) -> None:
        """Add the share of every place by kind of query."""
        for layer in self._layers:
            for kind, texts in self._texts.items():
                carried = self._carried[layer][kind]
                most = np.sort(carried, axis=1)[:, -TOP:].sum(axis=1)
                found = np.take_along_axis(carried, find(atlas, texts, layer), axis=1).sum(axis=1)
                into.setdefault(kind, []).append(100 * float((found[most > 0] / most[most > 0]).mean()))

    def told(self, atlas: Atlas, into: Shares) -> None:
        """Add the share of the five units that the effects of the classes meant name."""
        for layer in self._layers:
            effects = np.asarray(atlas.layer(layer).output_effects, np.float32)
            for kind, some in self._queries.items():
                units, carried = ranking(coverage(some, len(effects)) @ effects)[:, :TOP], self._carried[layer][kind]
                most = np.sort(carried, axis=1)[:, -TOP:].sum(axis=1)
                found = np.take_along_axis(carried, units, axis=1).sum(axis=1)
                into.setdefault(kind, []).append(100 * float((found[most > 0] / most[most > 0]).mean()))


def search(
    mix: LocalizationMix | None = None, temperature: float | None = None, wrap: Any = lambda atlas: atlas
) -> Find:
    """Return a search with a mix and τ, those of the settings by default."""

    def find(atlas: Atlas, texts: Any, layer: str) -> np.ndarray:
        hits = AtlasSearcher(wrap(atlas), mix).localize(texts, [layer], TOP, temperature=temperature)
        return np.array([[unit.unit for unit in hit.units] for hit in hits])

    return find


class _Untrained(Forgetful):
    """An atlas that does not know its outputs, whose encoders have random weights."""

    def layer(self, name: str) -> Any:
        layer = self._atlas.layer(name)
        if layer.entry.kind == "features":
            return layer
        spread = np.maximum(np.asarray(layer.std, np.float32), 1e-6)
        weights = np.random.default_rng(0).standard_normal(layer.encoder.shape).astype(np.float32) / spread
        return _WithEncoder(layer, weights)


class _WithEncoder:
    def __init__(self, layer: Any, encoder: np.ndarray) -> None:
        self._layer, self.encoder = layer, encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


ROWS: Mapping[str, Find] = {
    "by probe rows": search(wrap=Forgetful),
    "by probe rows, mechanism + text, τ 0.03": search(LocalizationMix(1, 0, 1), 0.03, Forgetful),
    "the same, encoder of random weights": search(LocalizationMix(1, 0, 1), 0.03, _Untrained),
    "output only: text × class-mean attribution": search(LocalizationMix(0, 0, 1)),
}


def tables(style: str, store: Path) -> str:
    """Measure, and return Markdown tables."""
    parts: dict[str, Shares] = {}
    compared: dict[str, Shares] = {}
    few: dict[str, Shares] = {}
    for name in DEMO:
        bench = Bench(name, style, store)
        with tempfile.TemporaryDirectory() as root:
            for views in VIEWS:
                atlas = bench.atlas(views, Path(root))
                bench.measure(atlas, search(), few.setdefault(f"{views:,} images", {}))
                bench.measure(atlas, ROWS["by probe rows"], few.setdefault(f"{views:,} images, by probe rows", {}))
            for mix, weights in MIXES.items():
                for tau in TEMPERATURES:
                    find = search(LocalizationMix(*map(float, weights)), tau)
                    bench.measure(atlas, find, parts.setdefault(f"{mix}, τ {tau}", {}))
            bench.measure(atlas, search(), compared.setdefault("default", {}))
            for row, find in ROWS.items():
                bench.measure(atlas, find, compared.setdefault(row, {}))
            bench.told(atlas, compared.setdefault("told the classes", {}))
    said = f"Share of the attribution on {style}, %"
    return "\n\n".join(
        (markdown(f"{said}: what weighs an output", parts), markdown(f"{said}: what the parts add", compared),
         markdown(f"{said}: few probe images", few))
    )  # fmt: skip


def markdown(title: str, shown: Mapping[str, Shares]) -> str:
    """Return a table with a row a way to find units, the default in bold."""
    config = settings()
    usual = np.array([config.localize_mechanism, config.localize_input, config.localize_output])
    bold = {f"{name}, τ {config.temperature}" for name, weights in MIXES.items()
            if np.allclose(usual / usual.sum(), np.array(weights) / sum(weights))} | {"default"}  # fmt: skip
    kinds = list(next(iter(shown.values())))
    lines = [title, "", "| units by | " + " | ".join(kinds).replace("_", " ") + " |", "|---" * (len(kinds) + 1) + "|"]
    for row, shares in shown.items():
        star = "**" if row in bold else ""
        lines.append(f"| {star}{row}{star} | " + " | ".join(f"{np.mean(shares[kind]):.1f}" for kind in kinds) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", default=VALIDATION_STYLE)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "miclip-localisation")
    parser.add_argument("--update", type=Path, help="Markdown file with the markers")
    chosen = parser.parse_args()
    found = tables(chosen.style, chosen.store)
    print(found)
    if chosen.update:
        before, _, rest = chosen.update.read_text(encoding="utf-8").partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        text = f"{before}{MARKERS[0]}\n\n{found}\n\n{MARKERS[1]}{after}"
        chosen.update.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
