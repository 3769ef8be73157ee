"""The version of this program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    """Return the installed version; ``"unknown"`` when run from a tree that is not installed."""
    try:
        return installed("miclip")
    except PackageNotFoundError:
        return "unknown"
