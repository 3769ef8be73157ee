"""Which mix of mechanism, input, output and which τ localise best: ``python benchmarks/localisation_defaults.py``.

Two tables, both of the demo models' penultimate and middle layers:

- of the shipped atlases, neurons and features: the share of the oracle's attribution that the five units found carry,
  and the share of the rows' weight that lies on images predicted as what the query covers. Seconds; no image is needed.
- unless ``--quick``, of neurons on the validation style: the specificity-weighted loss (×0) and gain (×2), as a share
  of the oracle's.

``--update FILE`` writes what was printed into a Markdown file between its markers.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy.special import softmax

from miclip.alignment import AlignmentConfig, align_model
from miclip.atlas import Atlas, find_atlas
from miclip.catalogue import load_clip, load_target
from miclip.cli.evaluate import DEMO
from miclip.demo.concepts import VALIDATION_STYLE
from miclip.demo.probe import demo_probe, held_out
from miclip.demo.queries import demo_queries
from miclip.evaluation.baselines import class_means
from miclip.evaluation.intervention import Change, Laboratory, intervene
from miclip.evaluation.methods import LayerMethods, dense
from miclip.evaluation.queries import Query, class_names, coverage
from miclip.evaluation.subject import EvaluationSettings, Subject
from miclip.evaluation.summary import summarise
from miclip.models.clip import Clip
from miclip.retrieval import AtlasSearcher, relevance_vectors
from miclip.retrieval.results import LocalizationMix
from miclip.settings import settings

MIXES = {
    "mechanism": (1, 0, 0), "input": (0, 1, 0), "output": (0, 0, 1), "mechanism + input": (1, 1, 0),
    "input + output": (0, 1, 1), "mechanism + output": (1, 0, 1), "mechanism + 3 output": (1, 0, 3),
    "all three": (1, 1, 1), "mechanism + input + 2 output": (1, 1, 2),
}  # fmt: skip
TEMPERATURES = (0.03, 0.05)
QUERIES = {"names": (64, 24), "synonyms": (64, 24), "keywords": (48, 12)}
TOP = 5
MARKERS = ("<!-- localisation defaults -->", "<!-- end of localisation defaults -->")

Score = dict[str, list[float]]
"""Weighted change towards what is wanted, by kind of query."""


class Bench:
    """One layer of one model with its validation images, aligned with one seed."""

    def __init__(self, searcher: AtlasSearcher, subject: Subject, layer: str, laboratory: Laboratory, clip: Clip):
        self.atlas, self._layer, self._laboratory = searcher.atlas, layer, laboratory
        self.asked = EvaluationSettings(queries=QUERIES).chosen(subject, layer)
        self.texts = {kind: clip.embed_texts([query.text for query in some]) for kind, some in self.asked.items()}
        methods = LayerMethods(searcher, layer, None, 0)
        rankings = {kind: methods.rankings(some, self.texts[kind], TOP) for kind, some in self.asked.items()}
        self.oracle = {kind: self._weighted(found["oracle"], self.asked[kind]) for kind, found in rankings.items()}

    def shares(self, mix: LocalizationMix, temperature: float) -> dict[str, float]:
        """Share of the oracle's weighted change by kind of query."""
        searcher, found = AtlasSearcher(self.atlas, mix), {}
        for kind, queries in self.asked.items():
            hits = searcher.localize(self.texts[kind], [self._layer], TOP, temperature=temperature)
            ranking = np.array([[unit.unit for unit in hit.units] for hit in hits])
            found[kind] = self._weighted(ranking, queries) / self.oracle[kind]
        return found

    def _weighted(self, ranking: np.ndarray, queries: tuple[Query, ...]) -> float:
        changes: dict[str, list[Change]] = intervene(self._laboratory, ranking, [q.classes for q in queries], TOP)
        gain, loss = (summarise([changes[scale]])["weighted"] for scale in ("scale_2", "scale_0"))
        return gain - loss


def benches(seeds: int, store: Path) -> Iterator[tuple[str, Bench]]:
    """Align the demo models, once a seed, and give their layers."""
    clip, views = load_clip(), held_out(VALIDATION_STYLE)
    for name, layers in DEMO.items():
        subject = Subject(load_target(name), *layers, views, views.labels, demo_queries())
        images = subject.preprocessed()
        usual = EvaluationSettings()
        laboratories = {layer: Laboratory(subject.model, layer, images, views.labels, usual.other_views, others)
                        for layer, others in zip(layers, usual.other_classes, strict=True)}  # fmt: skip
        for seed in range(seeds):
            config = AlignmentConfig(layers=layers)
            config = replace(config, encoder=replace(config.encoder, seed=seed))
            made = align_model(subject.model, clip, demo_probe(seed), config, store=store, atlas_root=store / "atlases")
            searcher = AtlasSearcher(Atlas.open(store / "atlases", made))
            for layer in layers:
                yield f"{name} {layer}", Bench(searcher, subject, layer, laboratories[layer], clip)


def table(seeds: int) -> str:
    """Measure, and return a Markdown table."""
    configs = list(itertools.product(MIXES.items(), TEMPERATURES))
    with tempfile.TemporaryDirectory() as store:
        measured: dict[tuple[str, float], Score] = {}
        for place, bench in benches(seeds, Path(store)):
            for (name, weights), temperature in track(configs, place):
                for kind, share in bench.shares(LocalizationMix(*map(float, weights)), temperature).items():
                    measured.setdefault((name, temperature), {}).setdefault(kind, []).append(share)
    title = (
        f"Share of the oracle's weighted change on {VALIDATION_STYLE}, %: mean of both models' penultimate and middle "
        f"layers, neurons, {seeds} seed{'s' if seeds > 1 else ''}; in brackets the worst of the layers."
    )
    shown = {config: {kind: f"{100 * np.mean(shares):.0f} ({100 * min(shares):.0f})" for kind, shares in found.items()}
             for config, found in measured.items()}  # fmt: skip
    return markdown(title, shown)


def reach() -> str:
    """Return a Markdown table of what the shipped atlases' attributions say."""
    clip, typed = load_clip(), demo_queries()
    found: dict[tuple[str, float], dict[str, list[tuple[float, float]]]] = {}
    for name, layers in DEMO.items():
        atlas = find_atlas(name)
        queries = {"names": class_names(atlas.manifest.labels), **typed}
        texts = {kind: clip.embed_texts([query.text for query in some]) for kind, some in queries.items()}
        for layer in (one for one in atlas.layer_names if one.partition("/")[0] in layers):
            for (mix, weights), temperature in itertools.product(MIXES.items(), TEMPERATURES):
                vectors = relevance_vectors(atlas, layer, LocalizationMix(*map(float, weights)))
                for kind, some in queries.items():
                    centred = AtlasSearcher(atlas).centre(texts[kind])
                    shares = _carried(atlas, layer, softmax(centred @ vectors.T / temperature, axis=1), some)
                    found.setdefault((mix, temperature), {}).setdefault(kind, []).append(shares)
    title = (
        "Share of the oracle's attribution that the five units found carry, %; in brackets the share of the rows' "
        "weight on images predicted as what the query covers. Shipped atlases, both models' penultimate and middle "
        "layers, neurons and features."
    )
    shown = {
        config: {kind: "{0:.1f} ({1:.0f})".format(*(100 * np.mean(shares, axis=0))) for kind, shares in by_kind.items()}
        for config, by_kind in found.items()
    }
    return markdown(title, shown)


def _carried(atlas: Atlas, layer: str, weights: np.ndarray, queries: Sequence[Query]) -> tuple[float, float]:
    predicted, classes = np.asarray(atlas.predicted, np.int64), len(atlas.manifest.labels)
    attributions, shares = dense(atlas.layer(layer).attributions), coverage(queries, classes)
    oracle = shares @ class_means(attributions, predicted, classes)
    chosen = np.argsort(-(weights @ attributions), axis=1)[:, :TOP]
    carried = np.take_along_axis(oracle, chosen, axis=1).sum(axis=1) / np.sort(oracle, axis=1)[:, -TOP:].sum(axis=1)
    return float(carried.mean()), float((weights * (shares > 0)[:, predicted]).sum(axis=1).mean())


def markdown(title: str, shown: dict[tuple[str, float], dict[str, str]]) -> str:
    """Return a table with a row a mix and τ, the defaults in bold."""
    config, kinds = settings(), list(next(iter(shown.values())))
    chosen = np.array([config.localize_mechanism, config.localize_input, config.localize_output])
    lines = [
        title,
        "",
        "| relevance of a probe image by | τ | " + " | ".join(kinds) + " |",
        "|---" * (len(kinds) + 2) + "|",
    ]
    for (name, temperature), cells in shown.items():
        same = np.allclose(chosen / chosen.sum(), np.array(MIXES[name]) / sum(MIXES[name]))
        star = "**" if same and temperature == config.temperature else ""
        lines.append(f"| {star}{name}{star} | {temperature} | " + " | ".join(cells[kind] for kind in kinds) + " |")
    return "\n".join([*lines, "", "Bold: the defaults (`MICLIP_LOCALIZE_*`, `MICLIP_TEMPERATURE`)."])


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the first table alone")
    parser.add_argument("--update", type=Path, help="Markdown file with the markers")
    chosen = parser.parse_args()
    found = reach() if chosen.quick else f"{reach()}\n\n{table(chosen.seeds)}"
    print(found)
    if chosen.update:
        before, _, rest = chosen.update.read_text(encoding="utf-8").partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        text = f"{before}{MARKERS[0]}\n\n{found}\n\n{MARKERS[1]}{after}"
        chosen.update.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
