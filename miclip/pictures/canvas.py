"""Files drawn with matplotlib, which is an extra; nothing else of miclip imports it."""

from __future__ import annotations

from pathlib import Path

from miclip.errors import InvalidInput, NotFound

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise NotFound("Drawing needs matplotlib: pip install 'miclip[plot]'.") from error

__all__ = ["DPI", "Figure", "check_png", "plain", "save"]

DPI = 150


def check_png(path: Path, option: str) -> None:
    """Check, before any work is done, that a drawing can be written; raises InvalidInput naming the option."""
    if path.suffix.lower() != ".png":
        raise InvalidInput(
            f"{option}: {path.name!r} is not a .png file.", field=option, allowed="a name ending in .png"
        )
    if not path.parent.is_dir():
        raise InvalidInput(f"{option}: there is no folder {str(path.parent)!r}.", field=option)


def save(figure: Figure, path: Path, option: str) -> None:
    """Write a figure as PNG; raises InvalidInput naming the option when the file cannot be written."""
    try:
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise InvalidInput(f"{option}: cannot write {path}: {error.strerror}.", field=option) from error


def plain(text: str) -> str:
    """Escape the dollar signs that matplotlib would read as mathematics."""
    return text.replace("$", r"\$")
