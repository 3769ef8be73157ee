"""The held-out slice: probe images set aside before an alignment, so that what it learns can be measured on them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miclip.alignment.probe import CHUNK, ProbeSet
from miclip.alignment.webp import encode_webp, pack, shrink
from miclip.atlas import PicturesEntry
from miclip.bundles import Bundle, bundled_probe_sets
from miclip.images import decode_image
from miclip.models.target import TargetModel
from miclip.settings import Settings

LEAST_IMAGES = 64
"""Images of a probe set below which none are set aside: the alignment needs them all."""
_QUALITY = 85
UNKNOWN = -1


class Rows:
    """Some rows of a probe set; a :class:`miclip.alignment.ProbeSet`.

    Args:
        probe: The whole set.
        rows: Rows of it, in order; whole images, in the same order in every view.
    """

    def __init__(self, probe: ProbeSet, rows: NDArray[np.int64]) -> None:
        self._probe, self._rows = probe, rows
        self.name, self.views, self.licence = probe.name, probe.views, probe.licence
        self.names = tuple(probe.names[row] for row in rows)
        self.sha256 = hashlib.sha256(json.dumps([probe.sha256, rows.tolist()]).encode()).hexdigest()

    def load(self, start: int, stop: int) -> list[Tensor]:
        """Return images ``start`` to ``stop``, each uint8 ``[3, H, W]``."""
        return [self._probe.load(row, row + 1)[0] for row in map(int, self._rows[start:stop])]


@dataclass(frozen=True)
class Split:
    """A probe set in two.

    Attributes:
        whole: The probe set.
        aligning: What the alignment may use.
        held_out: Rows of the whole set that are set aside, one an image: its first view.
    """

    whole: ProbeSet
    aligning: ProbeSet
    held_out: tuple[int, ...]


def set_aside(probe: ProbeSet, labels: Sequence[str], config: Settings) -> Split:
    """Set images aside, evenly spread over the probe set, with all their views.

    None are set aside where there are fewer than 64 images, or where the images are those of a bundle that has
    held-out images of the model's labels.

    Args:
        probe: The whole set.
        labels: Labels of the model.
        config: ``held_out_share`` and ``held_out_images``.
    """
    images = len(probe.names) // probe.views
    count = min(int(images * config.held_out_share), config.held_out_images)
    if images < LEAST_IMAGES or not count or judged_by_bundle(probe.name, labels):
        return Split(probe, probe, ())
    chosen = (np.arange(count) * images + images // 2) // count
    aside = _with_copies(probe, chosen, images)
    rest = np.flatnonzero(~np.isin(np.arange(len(probe.names)) % images, aside))
    return Split(probe, Rows(probe, rest), tuple(chosen.tolist()))


def _with_copies(probe: ProbeSet, chosen: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """Add the images that have the same bytes as a chosen one, where the probe set knows."""
    hashes: Sequence[str] = getattr(probe, "hashes", ())
    if not hashes:
        return chosen
    aside = {hashes[image] for image in chosen}
    return np.array([image for image in range(images) if hashes[image] in aside])


def judged_by_bundle(probe_set: str, labels: Sequence[str]) -> bool:
    """Whether a probe set is a bundle's whose held-out images show at least half of some labels."""
    bundle: Bundle | None
    bundle, _ = bundled_probe_sets().get(probe_set, (None, None))
    return bundle is not None and 2 * len(bundle.shown(labels)) >= len(labels)


def held_out_pictures(
    model: TargetModel, probe: ProbeSet, rows: Sequence[int], config: Settings
) -> tuple[PicturesEntry, dict[str, NDArray[Any]]]:
    """Return the manifest's entry and the tensors of held-out images.

    They are stored at the size that the model takes, and fewer of them, evenly spread, where ``held_out_bytes`` is too
    little. What the model predicts is what it predicts for the stored images.

    Args:
        model: The target model.
        probe: The whole probe set.
        rows: Rows of it that were set aside, at least one.
        config: ``held_out_bytes``.
    """
    edge = model.preprocess.resize_size or model.preprocess.size
    encoded = [_encoded(model, probe.load(row, row + 1)[0], edge) for row in rows]
    kept = _within(np.array([len(data) for data in encoded]), config.held_out_bytes)
    data = [encoded[place] for place in kept]
    packed = pack(data)
    shown = shown_labels([_class_name(probe, rows[place]) for place in kept], model.labels)
    entry = PicturesEntry(pictures=len(data), bytes=len(packed["data"]), edge=edge, left_out=len(rows) - len(data))
    return entry, {**packed, "predicted": _predictions(model, data), "shown": shown}


def shown_labels(classes: Sequence[str], labels: Sequence[str]) -> NDArray[np.int32]:
    """Return the label that each class name means, -1 where none does or several do: int32 ``[n]``."""
    counts = Counter(map(_plain, labels))
    places = {_plain(label): place for place, label in enumerate(labels) if counts[_plain(label)] == 1}
    return np.array([places.get(_plain(name), UNKNOWN) for name in classes], np.int32)


def _class_name(probe: ProbeSet, row: int) -> str:
    """What a row shows, as far as its probe set knows: its label, or the first folder of its name."""
    labels = getattr(probe, "labels", None)
    if isinstance(labels, tuple):
        return labels[row] or ""
    folder, slash, _ = probe.names[row].partition("/")
    return folder if slash else ""


def _plain(label: str) -> str:
    return label.casefold().replace("_", " ").strip()


def _encoded(model: TargetModel, image: Tensor, edge: int) -> bytes:
    return encode_webp(shrink(image, edge, longest=model.preprocess.resize == "longest"), _QUALITY)


def _within(sizes: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Places of as many of the pictures as fit, evenly spread; one fits always."""
    count = len(sizes)
    while True:
        kept = np.arange(count) * len(sizes) // count
        total = int(sizes[kept].sum())
        if total <= most or count == 1:
            return kept
        count = max(1, min(count - 1, count * most // total))


def _predictions(model: TargetModel, encoded: Sequence[bytes]) -> NDArray[np.int32]:
    predicted = []
    for start in range(0, len(encoded), CHUNK):
        images = [decode_image(data, field="held-out image") for data in encoded[start : start + CHUNK]]
        batch = torch.stack([model.preprocess(image) for image in images])
        with torch.no_grad():
            predicted.append(model.forward(batch).logits.argmax(dim=1).cpu().numpy())
    return np.concatenate(predicted).astype(np.int32)
