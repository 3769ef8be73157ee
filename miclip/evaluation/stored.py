"""Evaluating a model with what its atlas holds.

The held-out images judge; where the probe set is not at hand, the atlas is judged as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miclip.alignment import ProbeSet
from miclip.alignment.held_out import Rows
from miclip.atlas import HELD_OUT, Atlas
from miclip.errors import InvalidInput
from miclip.images import decode_image


class HeldOutImages:
    """The images that an alignment set aside; a :class:`miclip.alignment.ProbeSet`.

    Args:
        atlas: The atlas that holds them.

    Attributes:
        labels: Class of every image, int64 ``[N]``: their own where all have one, else what the model predicts.

    Raises:
        InvalidInput: the atlas has none.
    """

    views = 1

    def __init__(self, atlas: Atlas) -> None:
        held_out, manifest = atlas.held_out, atlas.manifest
        if held_out is None:
            text = (
                f"--images: the atlas of {manifest.model} holds no images to judge on; it was made from fewer than 64 "
                "images, or by an earlier version. Name a folder of labelled images, with one subfolder per label."
            )
            raise InvalidInput(text, field="--images", allowed="a folder")
        self._held_out, self.licence = held_out, manifest.licence
        judge = "with labels of their own" if held_out.labelled else "labelled by the model itself"
        self.name = f"{manifest.probe.set}, set aside before the alignment, {judge}"
        self.names = tuple(f"held-out/{place}" for place in range(len(held_out)))
        labels = held_out.shown if held_out.labelled else held_out.predicted
        self.labels = torch.from_numpy(np.asarray(labels).astype(np.int64))
        self.sha256 = hashlib.sha256(f"{manifest.files[f'{HELD_OUT}.safetensors'].sha256} {judge}".encode()).hexdigest()

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return images ``start`` to ``stop``, each uint8 ``[3, H, W]``."""
        places = range(*slice(start, stop).indices(len(self.names)))
        return [decode_image(self._held_out[place], field=self.names[place]) for place in places]


@dataclass
class StoredProbe:
    """The images of an atlas by name alone; a :class:`miclip.alignment.ProbeSet` that nothing can be aligned on."""

    name: str
    names: tuple[str, ...]
    sha256: str
    views: int = 1
    licence: str = ""

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Raise InvalidInput: the images are elsewhere."""
        raise InvalidInput(f"images: those of {self.name} are not at hand.", field="images")


def stored_probe(atlas: Atlas) -> StoredProbe:
    """Return the probe set of an atlas that is judged as it is."""
    entry = atlas.manifest.probe
    return StoredProbe(f"{entry.set}, in the stored atlas", tuple(atlas.probe_images), entry.sha256)


def aligning_images(atlas: Atlas, probe: ProbeSet) -> ProbeSet | None:
    """Return the images that an atlas was made from, without those set aside; None where the probe set is another."""
    if probe.sha256 != atlas.manifest.probe.sha256:
        return None
    used = set(atlas.probe_images)
    rows = [row for row, name in enumerate(probe.names) if name in used]
    return Rows(probe, np.array(rows))
