"""How well a localisation knows when not to be trusted: ``python benchmarks/evidence.py``.

Asks both demo models, at their penultimate and middle layers, for neurons and features, for everything that the
evaluation asks for, and for the names of classes that were hidden from the alignment: their texts, and the images that
the model takes for them. An answer is judged by the share of the most that five units can carry of the attribution of
the classes meant, measured on the validation style, which no alignment saw.

Prints, by kind of query and by the percentile from which on an answer is trusted, how many are, and the share that the
trusted and the doubtful ones carry. ``--update FILE`` writes it into a Markdown file between its markers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from judged import judging_probe
from numpy.typing import NDArray
from rich.progress import track

from miclip.catalogue import load_clip, load_target
from miclip.cli.evaluate import DEMO
from miclip.demo.concepts import VALIDATION_STYLE
from miclip.demo.probe import demo_probe, held_out
from miclip.demo.queries import demo_queries
from miclip.evaluation.methods import class_means
from miclip.evaluation.queries import Query, class_names, coverage
from miclip.evaluation.result import Place
from miclip.evaluation.run import align_seed
from miclip.evaluation.subject import Subject
from miclip.evaluation.unseen import without
from miclip.models.target import LOGITS
from miclip.retrieval.search import AtlasSearcher
from miclip.settings import settings

FOLDS = 4
THRESHOLDS = (50, 80, 90, 95)
TOP = 5
MARKERS = ("<!-- evidence -->", "<!-- end of evidence -->")
Answer = tuple[float, float]
"""Null percentile, and share of the attribution."""


class Bench:
    """One demo model with what its units carry on the validation style, and a folder for what takes long."""

    def __init__(self, name: str, store: Path) -> None:
        images = held_out(VALIDATION_STYLE)
        self.subject = Subject(load_target(name), DEMO[name], images, images.labels, demo_queries())
        self.places = [place for place in self.subject.places() if place.layer != LOGITS]
        self._store, self._clip = store, load_clip()
        self._carried = {place: self._carries(place) for place in self.places}

    def answers(self, queries: Sequence[Query], hidden: Sequence[int] = ()) -> Iterator[Answer]:
        """Localise queries in every place, with some classes hidden from the alignment."""
        model, probe = self.subject.model, demo_probe(0)
        if hidden:
            model, probe = without(model, probe, hidden)
        asked = [query.text for query in queries]
        texts = self._clip.embed_texts(asked)
        names = [place.name for place in self.places]
        with tempfile.TemporaryDirectory() as root:
            atlas = align_seed(model, self._clip, probe, names, 0, self._store, Path(root), lambda *_: None)
            searcher = AtlasSearcher(atlas)
            for place in self.places:
                carried = coverage(queries, len(model.labels)) @ self._carried[place]
                hits = searcher.localize(texts, [place.name], TOP, concepts=asked)
                for row, found in zip(carried, hits, strict=True):
                    most = float(np.sort(row)[-TOP:].sum())
                    assert found.evidence is not None
                    if most > 0:
                        share = float(row[[unit.unit for unit in found.units]].sum()) / most
                        yield found.evidence.null_percentile, share

    def _carries(self, place: Place) -> NDArray[np.float32]:
        """Class-mean attributions on the validation style, float32 ``[K, d]``."""
        model = self.subject.model
        judge = judging_probe(model, self._clip, held_out(VALIDATION_STYLE), place.name, self._store)
        return class_means(np.asarray(judge.attributions, np.float32), judge.predicted, len(model.labels))


def measure(store: Path) -> dict[str, list[Answer]]:
    """Return the answers by kind of query."""
    found: dict[str, list[Answer]] = defaultdict(list)
    for name in DEMO:
        bench = Bench(name, store)
        names = class_names(bench.subject.model.labels)
        for kind, queries in {"names": names, **bench.subject.queries}.items():
            found[kind] += bench.answers(queries)
        for fold in track(range(FOLDS), f"{name}: hidden classes"):
            hidden = range(2 * fold, len(names), 2 * FOLDS)
            found["names of hidden classes"] += bench.answers([names[label] for label in hidden], hidden)
    return found


def table(found: dict[str, list[Answer]]) -> str:
    """Return a Markdown table, the default threshold in bold."""
    lines = ["| queries | trusted from | trusted % | they carry % | the doubtful carry % |", "|---|---|---|---|---|"]
    for kind, answers in found.items():
        percentiles, shares = np.array(answers).T
        for threshold in THRESHOLDS:
            trusted = percentiles >= threshold
            carry = (f"{100 * part.mean():.0f}" if len(part) else "–" for part in (shares[trusted], shares[~trusted]))
            star = "**" if threshold == settings().doubt_percentile else ""
            cells = (kind, f"{star}{threshold}{star}", f"{100 * trusted.mean():.0f}", *carry)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "miclip-evidence")
    parser.add_argument("--update", type=Path, help="Markdown file with the markers")
    chosen = parser.parse_args()
    chosen.store.mkdir(parents=True, exist_ok=True)
    found = table(measure(chosen.store))
    print(found)
    if chosen.update:
        before, _, rest = chosen.update.read_text(encoding="utf-8").partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        text = f"{before}{MARKERS[0]}\n{found}\n{MARKERS[1]}{after}"
        chosen.update.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
