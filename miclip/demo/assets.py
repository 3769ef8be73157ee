"""Where the demo's bundle and its parts are."""

from __future__ import annotations

from pathlib import Path

from miclip.bundles import Bundle

ASSETS = Path(__file__).parent / "assets"
MODELS = ASSETS / "models"
IMAGES = ASSETS / "images"
ATLASES = ASSETS / "atlases"
DEMO = Bundle(ASSETS)
"""The bundle that comes with the package."""
