"""The held-out images in a model's atlas, which receipts and norm limits are measured on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from miclip.atlas import Atlas
from miclip.atlas.pictures import HeldOut
from miclip.v1 import activation_pb2
from services.steering.atlas_probes import active_atlas, spread

_TARGET_IMAGES = 16
_PLAIN_IMAGES = 112


class HeldOutProbes:
    """A sample of the images that an alignment set aside.

    They show what their labels say where all have one that the model has; else what the unsteered model says. Where
    none shows the target, thumbnails of images that the atlas was made from, and that the model took for it, do.

    Args:
        atlas: Of the model.
        held_out: Its held-out images.
    """

    def __init__(self, atlas: Atlas, held_out: HeldOut) -> None:
        self._atlas, self._held_out = atlas, held_out
        self._shown = np.asarray(held_out.shown if held_out.labelled else held_out.predicted)

    @classmethod
    def of(cls, model: activation_pb2.Model) -> HeldOutProbes | None:
        """Return the images in the model's active atlas; None where it has none."""
        atlas = active_atlas(model)
        return cls(atlas, atlas.held_out) if atlas and atlas.held_out else None

    def images(self, target: Collection[int]) -> tuple[Sequence[bytes], Sequence[int] | None]:
        """Up to 112 images spread over the slice, and up to 16 more that show each label of the target."""
        rows = spread(np.arange(len(self._held_out)), _PLAIN_IMAGES)
        for label in target:
            rows = np.union1d(rows, spread(np.flatnonzero(self._shown == label), _TARGET_IMAGES))
        further = [(label, image) for label in target for image in self._thumbnails(label)]
        images = [*(self._held_out[int(row)] for row in rows), *(image for _, image in further)]
        if not self._held_out.labelled:
            return images, None
        return images, [*self._shown[rows].tolist(), *(label for label, _ in further)]

    def source(self, target: Collection[int]) -> str:
        """Say what the images are, and who says what they show."""
        judge = "with labels of their own" if self._held_out.labelled else "labelled by the unsteered model"
        text = f"images of {self._atlas.manifest.probe.set} that the alignment set aside, {judge}"
        return f"{text}, and thumbnails of images that it used" if any(map(self._thumbnails, target)) else text

    def _thumbnails(self, label: int) -> list[bytes]:
        if (self._shown == label).any():
            return []
        rows = np.flatnonzero(np.asarray(self._atlas.predicted) == label)
        thumbnails = (self._atlas.thumbnail(int(row)) for row in rows)
        return [thumbnail for thumbnail in thumbnails if thumbnail is not None][:_TARGET_IMAGES]
