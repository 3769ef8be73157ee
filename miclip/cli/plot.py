"""The drawing of ``miclip trace``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from miclip.pictures.canvas import Figure, plain, save
from miclip.retrieval.results import LayerTrace


def plot_trace(path: Path, title: str, concepts: Sequence[str], layers: Sequence[LayerTrace]) -> None:
    """Draw one line a concept over the layers before the logits, and the probabilities at the logits beside them.

    Raises:
        InvalidInput: the file cannot be written.
    """
    before, logits = [layer for layer in layers if layer.measure == "cosine"], layers[-1]
    figure = Figure(figsize=(4.5 + 0.9 * max(4, len(before)), 4), layout="constrained")
    axes, answer = figure.subplots(1, 2, width_ratios=(max(4, len(before)), 2))
    for place, concept in enumerate(concepts):
        style = "-" if place == 0 else "--"
        scores = [layer.scores[place] for layer in before]
        (line,) = axes.plot(range(len(before)), scores, style, marker="o", label=plain(concept))
        answer.bar(place, logits.scores[place], color=line.get_color())
    axes.set_xticks(range(len(before)), [layer.layer for layer in before])
    axes.set(xlabel="layer", ylabel="cosine", title=plain(title))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.legend()
    answer.set_xticks(range(len(concepts)), list(map(plain, concepts)), rotation=30, ha="right")
    answer.set(ylabel="probability", title=logits.layer, ylim=(0, 1))
    save(figure, path, "--plot")
