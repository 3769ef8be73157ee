"""The images behind an atlas: the atlas keeps their names, the probe set has the pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from miclip.alignment import ProbeSet
from miclip.atlas import Atlas
from miclip.errors import InvalidInput


class ProbeImages:
    """Images of a probe set by the names that an atlas gives its rows.

    Args:
        atlas: The atlas.
        probe: The probe set that it was aligned on, or one that holds the images under the same names.

    Raises:
        InvalidInput: images of the atlas are not in the probe set.
    """

    def __init__(self, atlas: Atlas, probe: ProbeSet) -> None:
        places = {name: place for place, name in enumerate(probe.names)}
        missing = sorted(set(atlas.probe_images) - places.keys())
        if missing:
            text = (
                f"--images: {len(missing)} of the atlas's images are not in {probe.name!r}, {missing[0]!r} among them; "
                f"give the images that {atlas.manifest.model} was aligned on."
            )
            raise InvalidInput(text, field="--images", allowed=f"the probe set {atlas.manifest.probe.set!r}")
        self._probe, self._atlas = probe, atlas
        self._places = [places[name] for name in atlas.probe_images]

    def load(self, rows: Sequence[int]) -> list[Tensor]:
        """Return the images of rows of the atlas, each uint8 ``[3, H, W]``."""
        return [self._probe.load(place, place + 1)[0] for place in (self._places[row] for row in rows)]

    def top(self, layer: str, unit: int, count: int) -> list[Tensor]:
        """Return the images that drive a unit most, at most 16, strongest first; raises NotAligned."""
        rows = self._atlas.layer(layer).top_images[unit][:count]
        return self.load([int(row) for row in rows if row >= 0])
