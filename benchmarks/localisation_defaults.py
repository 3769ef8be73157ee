"""Which mix of mechanism, input, output and which τ localise best: ``python benchmarks/localisation_defaults.py``.

Two tables, both of the shipped atlases; ``benchmarks/defaults.py`` aligns anew, with several seeds, for every setting.

- Both models' penultimate and middle layers: the share of the oracle's attribution that the five units found carry, and
  the share of the rows' weight that lies on images predicted as what the query covers. No image is needed.
- Neurons of the penultimate layers (``--middle``: of the middle ones too, which takes minutes) on the validation style:
  the specificity-weighted gain (×2) and loss (×0), as a share of the oracle's.

``--update FILE`` writes what was printed into a Markdown file between its markers.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy.special import softmax

from miclip.atlas import Atlas, find_atlas
from miclip.catalogue import load_clip, load_target
from miclip.cli.evaluate import DEMO
from miclip.demo.concepts import VALIDATION_STYLE
from miclip.demo.probe import held_out
from miclip.demo.queries import demo_queries
from miclip.evaluation.intervention import Change, Laboratory, intervene
from miclip.evaluation.methods import class_means, dense, ranking
from miclip.evaluation.queries import Query, class_names, coverage
from miclip.evaluation.subject import EvaluationSettings, Subject
from miclip.evaluation.summary import SIGNS, summarise
from miclip.models.clip import Clip
from miclip.retrieval.attribution import relevance_vectors
from miclip.retrieval.results import LocalizationMix
from miclip.retrieval.search import AtlasSearcher
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


class Bench:
    """One layer of one model with its validation images, aligned with one seed."""

    def __init__(self, searcher: AtlasSearcher, subject: Subject, layer: str, laboratory: Laboratory, clip: Clip):
        self.atlas, self._layer, self._laboratory = searcher.atlas, layer, laboratory
        self.asked = EvaluationSettings(queries=QUERIES).chosen(subject, layer)
        self.texts = {kind: clip.embed_texts([query.text for query in some]) for kind, some in self.asked.items()}
        predicted, classes = np.asarray(self.atlas.predicted, np.int64), len(self.atlas.manifest.labels)
        oracle = class_means(dense(self.atlas.layer(layer).attributions), predicted, classes)
        self.oracle = {kind: self._weighted(ranking(coverage(some, classes) @ oracle), some)
                       for kind, some in self.asked.items()}  # fmt: skip

    def shares(self, mix: LocalizationMix, temperature: float) -> dict[str, float]:
        """Share of the oracle's weighted change by kind of query."""
        searcher, found = AtlasSearcher(self.atlas, mix), {}
        for kind, queries in self.asked.items():
            hits = searcher.localize(self.texts[kind], [self._layer], TOP, temperature=temperature)
            units = np.array([[unit.unit for unit in hit.units] for hit in hits])
            found[kind] = self._weighted(units, queries) / self.oracle[kind]
        return found

    def _weighted(self, units: np.ndarray, queries: tuple[Query, ...]) -> float:
        changes: dict[str, list[Change]] = intervene(self._laboratory, units, [q.classes for q in queries], TOP)
        gain, loss = (summarise([changes[scale]], SIGNS[scale]).weighted.value for scale in ("scale_2", "scale_0"))
        return gain - loss


def benches(middle: bool) -> Iterator[tuple[str, Bench]]:
    """Give the demo models' penultimate layers, and the middle ones where ``middle``."""
    clip, views = load_clip(), held_out(VALIDATION_STYLE)
    for name, layers in DEMO.items():
        subject = Subject(load_target(name), layers, views, views.labels, demo_queries())
        images, searcher, usual = subject.preprocessed(), AtlasSearcher(find_atlas(name)), EvaluationSettings()
        for layer, others in zip(reversed(layers), usual.other_classes, strict=True):
            if middle or layer == subject.penultimate:
                laboratory = Laboratory(subject.model, layer, images, views.labels, usual.other_views, others)
                yield f"{name} {layer}", Bench(searcher, subject, layer, laboratory, clip)


def table(middle: bool) -> str:
    """Measure, and return a Markdown table."""
    configs = list(itertools.product(MIXES.items(), TEMPERATURES))
    measured: dict[tuple[str, float], dict[str, list[float]]] = {}
    for place, bench in benches(middle):
        for (name, weights), temperature in track(configs, place):
            for kind, share in bench.shares(LocalizationMix(*map(float, weights)), temperature).items():
                measured.setdefault((name, temperature), {}).setdefault(kind, []).append(share)
    layers = "penultimate and middle layers" if middle else "penultimate layers"
    title = (
        f"Share of the oracle's weighted change on {VALIDATION_STYLE}, %: mean of both models' {layers}, neurons; in "
        "brackets the worst of the layers."
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
        "layers, neurons, and features where the atlas has them."
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
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--middle", action="store_true", help="measure the middle layers too")
    parser.add_argument("--update", type=Path, help="Markdown file with the markers")
    chosen = parser.parse_args()
    bold = "Bold: the defaults (`MICLIP_LOCALIZE_*`, `MICLIP_TEMPERATURE`)."
    found = f"{reach()}\n\n{table(chosen.middle)}\n\n{bold}"
    print(found)
    if chosen.update:
        before, _, rest = chosen.update.read_text(encoding="utf-8").partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        text = f"{before}{MARKERS[0]}\n\n{found}\n\n{MARKERS[1]}{after}"
        chosen.update.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
