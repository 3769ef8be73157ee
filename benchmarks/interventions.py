"""How much an intervention gains by resuming the network from the edited layer: ``python benchmarks/interventions.py``.

Prints, for a layer of each demo model, the median time of one intervention through the whole network over that of the
resumed one, both measured in this run, alternating.
"""

from __future__ import annotations

import statistics
import time

import torch

from miclip.catalogue import load_target
from miclip.demo.probe import held_out
from miclip.evaluation.intervention import Laboratory

ROUNDS = 15


def main() -> None:
    """Measure and print."""
    views = held_out()
    images = views.load(0, len(views.names))
    for name, layer in (("emoji-resnet", "layer3"), ("emoji-resnet", "layer4"), ("emoji-vit", "blocks.2")):
        model = load_target(name, "cpu")
        inputs = torch.stack([model.preprocess(image) for image in images])
        resumed, whole = (Laboratory(model, layer, inputs, views.labels, 1) for _ in range(2))
        whole._rest = None
        times: dict[Laboratory, list[float]] = {resumed: [], whole: []}
        for target in range(ROUNDS):
            for laboratory, seconds in times.items():
                started = time.perf_counter()
                laboratory.change([target], range(5), 0.0)
                seconds.append(time.perf_counter() - started)
        slow, fast = statistics.median(times[whole]), statistics.median(times[resumed])
        print(f"{name:13} {layer:9} whole network / resumed: {slow / fast:.1f}×")


if __name__ == "__main__":
    main()
