"""The drawing of ``miclip trace``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from miclip.pictures.canvas import Figure, plain, save
from miclip.retrieval.results import LayerTrace


def plot_trace(path: Path, title: str, concepts: Sequence[str], layers: Sequence[LayerTrace]) -> None:
    """Draw one line a concept over the layers.

    Raises:
        InvalidInput: the file cannot be written.
    """
    figure = Figure(figsize=(1.5 + 0.9 * max(5, len(layers)), 4), layout="constrained")
    axes = figure.add_subplot()
    for place, concept in enumerate(concepts):
        style = "-" if place == 0 else "--"
        scores = [layer.scores[place] for layer in layers]
        axes.plot(range(len(layers)), scores, style, marker="o", label=plain(concept))
    axes.set_xticks(range(len(layers)), [layer.layer for layer in layers])
    axes.set(xlabel="layer", ylabel="cosine", title=plain(title))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.legend()
    save(figure, path, "--plot")
