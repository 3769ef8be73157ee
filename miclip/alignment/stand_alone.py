"""What an atlas keeps so that it can be looked at and measured without the images that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.held_out import Split, held_out_pictures
from miclip.alignment.thumbnails import needed_rows, thumbnail_pictures
from miclip.atlas import HELD_OUT, THUMBNAILS, PicturesEntry
from miclip.bundles import bundled_probe_sets
from miclip.models.target import TargetModel
from miclip.progress import Progress, Report, Stage, StageKind
from miclip.settings import Settings

Tensors = dict[str, NDArray[Any]]


def pictures(
    model: TargetModel,
    split: Split,
    rows: NDArray[np.int64],
    layers: Mapping[str, Tensors],
    config: Settings,
    report: Report,
) -> tuple[dict[str, PicturesEntry], dict[str, Tensors]]:
    """Return the manifest's entries and the tensors of the atlas's pictures.

    Thumbnails of a bundle's images are not made: where the bundle is, the images are.

    Args:
        model: The target model.
        split: The probe set.
        rows: Row of ``split.aligning`` of every row of the atlas.
        layers: Tensors of the layers.
        config: The budgets.
        report: Told of the thumbnails made.
    """
    made = {}
    if split.held_out:
        made[HELD_OUT] = held_out_pictures(model, split.whole, split.held_out, config)
    if split.whole.name not in bundled_probe_sets():
        needed = needed_rows((layer["top_images"] for layer in layers.values()), len(rows))

        def tell(done: int, total: int) -> None:
            report(Progress(Stage(StageKind.ATLAS), done, total + 1))

        if thumbnails := thumbnail_pictures(split.aligning, rows, needed, config, tell):
            made[THUMBNAILS] = thumbnails
    return {stem: entry for stem, (entry, _) in made.items()}, {stem: tensors for stem, (_, tensors) in made.items()}
