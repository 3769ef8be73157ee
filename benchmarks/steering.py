"""What steering costs in the library: ``python benchmarks/steering.py``.

Prints, for both demo models and batches of 1, 8 and 32 images, the median time of a forward pass as a multiple of the
floor, the bare ``torch`` module on the same images in the same run. Rounds alternate between the ways, so that a busy
machine disturbs all of them alike.

- *no edits*: ``TargetModel.forward`` with nothing to change;
- *capture*: the same, and the pooled activations of one layer;
- *one policy*: every image with the same five edits;
- *mixed*: every image with five edits of its own, in one pass;
- *features*: the same on features of the layer's dictionary, which has to encode the edited images;
- *one by one*: the images of *mixed*, each in a pass of its own, as a server does that cannot mix.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from miclip.catalogue import load_target
from miclip.demo.probe import held_out
from miclip.models.target import TargetModel
from miclip.steering.edits import Edit, Op, compile_edits

PLACES = {
    "emoji-resnet": ("layer4", "layer4/dictionaries/topk-512"),
    "emoji-vit": ("norm", "norm/dictionaries/topk-512"),
}
BATCHES = (1, 8, 32)
EDITS = 5


def ways(model: TargetModel, layer: str, features: str, images: Tensor) -> dict[str, Callable[[], object]]:
    """Return what is timed by name, the floor first."""
    generator, sizes = random.Random(0), model.layer_sizes

    def some(where: str) -> list[Edit]:
        units = generator.sample(range(sizes[where]), EDITS)
        return [Edit(where, unit, Op.SCALE, generator.choice((0.0, 0.5, 2.0))) for unit in units]

    same, rows = some(layer), [some(layer) for _ in images]
    coded = [some(features) for _ in images]
    bare = images.to(memory_format=torch.channels_last)

    def floor() -> Tensor:
        with torch.inference_mode():
            return model.module(bare).cpu()

    def steered(edits: list[list[Edit]]) -> object:
        return model.forward(images, edits=compile_edits(edits, sizes))

    def singly() -> object:
        return [model.forward(images[i : i + 1], edits=compile_edits([rows[i]], sizes)) for i in range(len(images))]

    return {
        "bare module": floor,
        "no edits": lambda: model.forward(images),
        "capture": lambda: model.forward(images, [layer]),
        "one policy": lambda: steered([same] * len(images)),
        "mixed": lambda: steered(rows),
        "features": lambda: steered(coded),
        "one by one": singly,
    }


def medians(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each way; the rounds alternate."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(rounds + 2):
        for name, run in timed.items():
            started = time.perf_counter()
            run()
            if turn >= 2:  # the first passes choose kernels
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each way")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    chosen = parser.parse_args()
    views = held_out()
    header: list[str] = []
    for name, (layer, features) in PLACES.items():
        model = load_target(name, chosen.device)
        images = torch.stack([model.preprocess(image) for image in views.load(0, max(BATCHES))]).to(model.device)
        for batch in BATCHES:
            found = medians(ways(model, layer, features, images[:batch]), chosen.rounds)
            floor = found.pop("bare module")
            if not header:
                header = list(found)
                print(f"{'model':13} {'layer':7} {'images':>6} " + " ".join(f"{way:>11}" for way in header))
            cells = " ".join(f"{found[way] / floor:>10.2f}×" for way in header)
            print(f"{name:13} {layer:7} {batch:>6} {cells}", flush=True)


if __name__ == "__main__":
    main()
