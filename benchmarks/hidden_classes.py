"""What concepts without a label are found by: ``python benchmarks/hidden_classes.py``.

Some classes of both demo models are hidden from an alignment: their names, and all probe images that the model takes
for them. Their outputs stay, without a name. Asked for the names, miclip must find the units through what the outputs
look like. Prints, for the penultimate and middle layers, neurons and features, how many points of their accuracy the
hidden classes lose when the five units found are removed (×0): by the factors of ``localize_unnamed``; by probe rows,
as of an atlas that does not know its outputs; and by an alignment that is told whose output it is. The validation style
judges, or the one of ``--style``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from miclip.atlas import Atlas
from miclip.catalogue import load_clip, load_target
from miclip.cli.evaluate import DEMO
from miclip.demo.concepts import VALIDATION_STYLE
from miclip.demo.probe import demo_probe, held_out
from miclip.evaluation.intervention import Laboratory, intervene
from miclip.evaluation.methods import ranking
from miclip.evaluation.queries import class_names
from miclip.evaluation.run import align_seed
from miclip.evaluation.subject import EvaluationSettings, Subject
from miclip.evaluation.unseen import hidden_classes, without
from miclip.models.target import LOGITS
from miclip.retrieval.attribution import usual_mix
from miclip.retrieval.search import AtlasSearcher

HIDDEN = 16
FACTORS = (1.0, 1.5, 2.0, 2.5, 3.0, 10.0)
"""Of the last, only outputs without a name count."""
TOP = 5


class Forgetful:
    """An atlas that does not know its outputs, as those of schema 2."""

    output_embeddings = None

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas

    def __getattr__(self, name: str) -> Any:
        return getattr(self._atlas, name)


def measure(name: str, style: str, store: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Give the change of the hidden classes' accuracy, in points, by place and by what found the units."""
    clip, images, usual = load_clip(), held_out(style), EvaluationSettings()
    subject = Subject(load_target(name), DEMO[name], images, images.labels)
    names = class_names(subject.model.labels)
    hidden = list(hidden_classes(len(names), HIDDEN))
    queries = [names[label] for label in hidden]
    texts, inputs = clip.embed_texts([query.text for query in queries]), subject.preprocessed()
    places = [place for place in subject.places() if place.layer != LOGITS]
    layers, probe = [place.name for place in places], demo_probe(0)
    with tempfile.TemporaryDirectory() as root:
        blind, part = without(subject.model, probe, hidden)
        atlas = align_seed(blind, clip, part, layers, 0, store, Path(root), lambda *_: None)
        for place in places:
            effects = np.asarray(atlas.layer(place.name).output_effects, np.float32)[hidden]
            mixes = {f"× {factor:g}": replace(usual_mix(), unnamed=factor) for factor in FACTORS}
            found = {**{name: _search(AtlasSearcher(atlas, mix), texts, place.name) for name, mix in mixes.items()},
                     "by probe rows": _search(AtlasSearcher(Forgetful(atlas)), texts, place.name),  # type: ignore[arg-type]
                     "told the output": ranking(effects)[:, :TOP]}  # fmt: skip
            others = usual.other_classes[place.layer != subject.penultimate]
            laboratory = Laboratory(subject.model, place.name, inputs, images.labels, usual.other_views, others)
            classes = [query.classes for query in queries]
            yield (
                place.name,
                {
                    method: float(
                        np.mean([one.target for one in intervene(laboratory, units, classes, TOP)["scale_0"]])
                    )
                    for method, units in found.items()
                },
            )


def _search(searcher: AtlasSearcher, texts: np.ndarray, layer: str) -> np.ndarray:
    return np.array([[unit.unit for unit in hit.units] for hit in searcher.localize(texts, [layer], TOP)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", default=VALIDATION_STYLE)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "miclip-hidden")
    chosen = parser.parse_args()
    title = f"Change of accuracy of {HIDDEN} hidden classes on {chosen.style}, points, ×0 of {TOP} units"
    print(f"{title}; in brackets the share of what the told output does")
    rows: list[dict[str, float]] = []
    for name in DEMO:
        for place, changes in measure(name, chosen.style, chosen.store):
            if not rows:
                print("\n| layer | " + " | ".join(changes) + " |\n" + "|---" * (len(changes) + 1) + "|")
            rows.append(changes)
            print(row(f"{name} {place}", changes), flush=True)
    print(row("mean", {method: float(np.mean([one[method] for one in rows])) for method in rows[0]}))


def row(name: str, changes: dict[str, float]) -> str:
    """Return a row of the table."""
    told = changes["told the output"]
    return f"| {name} | " + " | ".join(f"{value:.1f} ({100 * value / told:.0f} %)" for value in changes.values()) + " |"


if __name__ == "__main__":
    main()
