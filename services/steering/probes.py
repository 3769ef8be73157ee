"""The images that receipts and norm limits are measured on: of the request, a bundle, or the model's atlas."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Protocol

from miclip.bundles import Bundle, bundle_of_model, bundles
from miclip.errors import InvalidInput
from miclip.names import parse_model
from miclip.settings import Settings
from miclip.v1 import activation_pb2
from services.steering.atlas_probes import AtlasProbes, encode_png
from services.steering.held_out import HeldOutProbes

_TARGET_VIEWS = 16
_LEAST_VIEWS = 4
_PLAIN_VIEWS = 1
_OVERLAP = 0.5


class Probes(Protocol):
    """Where images come from."""

    def images(self, target: Collection[int]) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """Encoded images, most of the target, and the label that each shows; None where the model has to say."""
        ...

    def source(self, target: Collection[int]) -> str:
        """Say what the images are, and who says what they show."""
        ...


class GivenProbes:
    """Images of the request; what they show is what the unsteered model says."""

    def __init__(self, images: Sequence[bytes]) -> None:
        self._images = images

    def images(self, target: Collection[int]) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """The images, and no labels."""
        return self._images, None

    def source(self, target: Collection[int]) -> str:
        """Say what the images are, and who says what they show."""
        return "the images given, labelled by the unsteered model"


class BundleProbes:
    """Views of a bundle's held-out drawings, of those labels that the model has.

    Args:
        bundle: Has images.
        rows: Place of the bundle's label by label of the model.
    """

    def __init__(self, bundle: Bundle, rows: dict[int, int]) -> None:
        self._bundle, self._rows = bundle, rows

    def images(self, target: Collection[int]) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """One view of every label; sixteen of the target, or as many of its labels together, four of each at least."""
        encoded, shown = [], []
        views = max(_LEAST_VIEWS, _TARGET_VIEWS // max(1, len(target)))
        for label, row in self._rows.items():
            for view in range(views if label in target else _PLAIN_VIEWS):
                encoded.append(_held_out_view(self._bundle, row, view))
                shown.append(label)
        return encoded, shown

    def source(self, target: Collection[int]) -> str:
        """Say what the images are, and who says what they show."""
        return f"held-out drawings of the bundle {self._bundle.manifest.name}, labelled by what they draw"


def known_probes(model: activation_pb2.Model, config: Settings) -> Probes | None:
    """Return images for a model of which the request brings none; reads files, so call it in a thread.

    They are held-out images of the model's bundle, or of another bundle with most of its labels; else the held-out
    images in the model's active atlas; else images of the probe set that the atlas was made from. None where the server
    has none of these.

    Args:
        model: The model with its labels and the name of its atlas.
        config: Settings.
    """
    name = parse_model(model.name).model
    own = bundle_of_model(name)
    for bundle in [*([own] if own else []), *bundles()]:
        rows = bundle.shown(model.labels)
        if len(rows) >= _OVERLAP * len(model.labels):
            return BundleProbes(bundle, rows)
    return HeldOutProbes.of(model) or AtlasProbes.of(model, config)


def no_probes(model: activation_pb2.Model, field: str) -> InvalidInput:
    """Say that a model cannot be measured, and what to do; ``field`` of the request asked for it."""
    text = (
        f"{field}: the server has no images to measure {model.name} on. Align it again, on 64 images or more: an "
        "eighth is then kept to measure on. Or add the folder that it was aligned on to MICLIP_PROBE_SETS."
    )
    remedy = "Or send images." if field == "images" else "Or leave it out, and send images to PreviewPolicy."
    return InvalidInput(f"{text} {remedy}", field=field, allowed="for models that the server has images of")


@lru_cache(maxsize=4096)
def _held_out_view(bundle: Bundle, row: int, view: int) -> bytes:
    images = _held_out(bundle)
    index = (view % images.views) * (len(images.labels) // images.views) + row
    return encode_png(images.load(index, index + 1)[0])


@lru_cache(maxsize=4)
def _held_out(bundle: Bundle):  # type: ignore[no-untyped-def]  # importing the type would import torch
    from miclip.bundles.views import DrawingViews, images_of

    return DrawingViews(bundle, images_of(bundle).held_out)
