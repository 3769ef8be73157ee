"""The demo's probe set and its held-out images: fixed, seeded views of the shipped drawings."""

from __future__ import annotations

from miclip.bundles import ImageSet
from miclip.bundles.views import DrawingViews, images_of
from miclip.demo.assets import DEMO
from miclip.demo.concepts import HELD_OUT_STYLE, TRAIN_STYLES


class StyleViews(DrawingViews):
    """Seeded views of the classes in some drawing styles.

    Args:
        name: Name of the probe set.
        styles: Drawing styles.
        views: Views per drawing.
        seed: Seed of the views.
    """

    def __init__(self, name: str, styles: tuple[str, ...], views: int, seed: int = 0) -> None:
        super().__init__(DEMO, ImageSet(name=name, styles=styles, views=views, seed=seed))


def demo_probe(seed: int = 0) -> StyleViews:
    """Return the probe set that the shipped atlases were aligned on (``seed`` 0), or one with other views."""
    probe = images_of(DEMO).probe
    return StyleViews(probe.name, probe.styles, probe.views, seed)


def held_out(style: str = HELD_OUT_STYLE) -> StyleViews:
    """Return the fixed evaluation views of the held-out style (or of another one)."""
    views = images_of(DEMO).held_out
    return StyleViews(f"held-out-{style}", (style,), views.views, views.seed)


def dictionary_probe(views: int) -> StyleViews:
    """Return the images that the shipped dictionaries were trained on: more views than the probe set has."""
    return StyleViews("demo-dictionary", TRAIN_STYLES, views, seed=11)
