"""miclip: what a unit of a vision model means, where a concept lives, and how to turn it."""

from __future__ import annotations

__version__: str
"""The installed version; ``"unknown"`` in a tree that is not installed."""


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: reading the installation's metadata takes time."""
    if name != "__version__":
        raise AttributeError(f"module 'miclip' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("miclip")
    except PackageNotFoundError:
        return "unknown"
