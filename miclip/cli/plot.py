"""Drawings of the command line, with matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from miclip.cli.answers import LayerScores
from miclip.errors import InvalidInput, NotFound

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise NotFound("--plot needs matplotlib: pip install 'miclip[plot]'.", field="--plot") from error


def check_plot(path: Path) -> None:
    """Check, before any work is done, that a drawing can be written; raises InvalidInput."""
    if path.suffix.lower() != ".png":
        raise InvalidInput(
            f"--plot: {path.name!r} is not a .png file.", field="--plot", allowed="a name ending in .png"
        )
    if not path.parent.is_dir():
        raise InvalidInput(f"--plot: there is no folder {str(path.parent)!r}.", field="--plot")


def plot_trace(path: Path, title: str, concepts: Sequence[str], layers: Sequence[LayerScores]) -> None:
    """Draw one line a concept over the layers.

    Raises:
        InvalidInput: the file cannot be written.
    """
    figure = Figure(figsize=(1.5 + 0.9 * max(5, len(layers)), 4), layout="constrained")
    axes = figure.add_subplot()
    for place, concept in enumerate(concepts):
        style = "-" if place == 0 else "--"
        scores = [layer["scores"][place] for layer in layers]
        axes.plot(range(len(layers)), scores, style, marker="o", label=concept.replace("$", r"\$"))
    axes.set_xticks(range(len(layers)), [layer["layer"] for layer in layers])
    axes.set(xlabel="layer", ylabel="cosine", title=title.replace("$", r"\$"))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InvalidInput(f"--plot: cannot write {path}: {error.strerror}.", field="--plot") from error
