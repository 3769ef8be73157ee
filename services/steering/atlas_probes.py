"""What a model's atlas was made from: its images, where the server still has them, and the activations it stores."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from miclip.atlas import Atlas, locate_atlas
from miclip.bundles import Bundle, ImageSet, bundled_probe_sets
from miclip.errors import BadArtefact, MiclipError, NotFound
from miclip.names import parse_id
from miclip.probe_sets import Source, find_source
from miclip.settings import Settings
from miclip.steering.edits import Edit
from miclip.steering.effects import stored_norm_change
from miclip.v1 import activation_pb2

_TARGET_IMAGES = 16
_PLAIN_IMAGES = 112
_SHRUNK_EDGE = 512

Read = Callable[[str], bytes | None]
"""Name of a probe row → its encoded image; None where it is not there any more."""


class AtlasProbes:
    """A sample of an atlas's probe images; what they show is what the unsteered model says.

    Args:
        atlas: Of the model.
        read: Reads the image of a row by its name.
    """

    def __init__(self, atlas: Atlas, read: Read) -> None:
        self._names, self._predicted, self._read = atlas.probe_images, np.asarray(atlas.predicted), read
        self._set = atlas.manifest.probe.set

    @classmethod
    def of(cls, model: activation_pb2.Model, config: Settings) -> AtlasProbes | None:
        """Return the images of the model's active atlas; None where it has none, or the server lacks its images."""
        atlas = active_atlas(model)
        if atlas is None:
            return None
        read = _reader(atlas.manifest.probe.set, config)
        probes = cls(atlas, read) if read else None
        return probes if probes and probes.images(())[0] else None

    def images(self, target: Collection[int]) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """Up to 112 images spread over the probe set, and up to 16 more that the model took for each target label."""
        rows = spread(np.arange(len(self._names)), _PLAIN_IMAGES)
        for label in target:
            rows = np.union1d(rows, spread(np.flatnonzero(self._predicted == label), _TARGET_IMAGES))
        found = (self._read(self._names[row]) for row in rows)
        return [image for image in found if image is not None], None

    def source(self, target: Collection[int]) -> str:
        """Say what the images are, and who says what they show."""
        return f"images of {self._set} that the alignment used, labelled by the unsteered model"


def active_atlas(model: activation_pb2.Model) -> Atlas | None:
    """Open the model's active atlas; None where it has none that can be used."""
    if not model.atlas:
        return None
    try:
        return _open(locate_atlas(parse_id(model.atlas, "atlases")))
    except (NotFound, BadArtefact):
        return None


def atlas_norm_change(model: activation_pb2.Model, edits: Sequence[Edit]) -> float | None:
    """Return the norm change of edits by the activations that the model's atlas stores.

    Returns:
        None where the model has no atlas, the atlas lacks an edited layer, or features are edited: what these change
        in the layer that they are on is known to the model alone.
    """
    atlas, layers = active_atlas(model), {edit.layer for edit in edits}
    if atlas is None or not layers <= set(atlas.neuron_layers):
        return None
    return stored_norm_change(
        edits, {layer: np.asarray(atlas.layer(layer).activations, np.float32) for layer in layers}
    )


def encode_png(pixels: Any) -> bytes:
    """Encode an image, uint8 ``[3, H, W]`` (a torch tensor), as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=4)
def _open(path: Path) -> Atlas:
    return Atlas.open(path.parent, path.name)


def spread(rows: Any, count: int) -> Any:
    """At most ``count`` of the rows, evenly spread."""
    return rows if len(rows) <= count else rows[np.arange(count) * len(rows) // count]


def _reader(probe_set: str, config: Settings) -> Read | None:
    if (path := config.probe_sets.get(probe_set)) is not None:
        return partial(_read_image, path, config.max_message_bytes // (2 * config.max_images))
    if (bundled := bundled_probe_sets().get(probe_set)) is not None:
        return partial(_read_view, *bundled)
    return None


def _read_image(path: Path, most_bytes: int, name: str) -> bytes | None:
    """Read an image of a probe set; one of more than ``most_bytes`` is shrunk, so that a request keeps its limit."""
    try:
        source = _source(path)
        place = source.find(name)
        data = b"" if place is None else source.read(place)
    except (OSError, MiclipError, ModuleNotFoundError):  # a server without the extra that reads tables
        return None
    return (data if len(data) <= most_bytes else _shrink(data, name)) or None


@lru_cache(maxsize=8)
def _source(path: Path) -> Source:
    return find_source(path)


def _shrink(data: bytes, name: str) -> bytes | None:
    from PIL import Image

    from miclip.images import decode_image  # brings torch, which replicas of steering seldom need

    try:
        pixels = decode_image(data, field=name)
    except MiclipError:
        return None
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    image.thumbnail((_SHRUNK_EDGE, _SHRUNK_EDGE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _read_view(bundle: Bundle, images: ImageSet, name: str) -> bytes | None:
    views, places = _views(bundle, images)
    row = places.get(name)
    return None if row is None else encode_png(views.load(row, row + 1)[0])


@lru_cache(maxsize=2)
def _views(bundle: Bundle, images: ImageSet):  # type: ignore[no-untyped-def]  # the type would import torch
    from miclip.bundles.views import DrawingViews

    views = DrawingViews(bundle, images)
    return views, {name: row for row, name in enumerate(views.names)}
