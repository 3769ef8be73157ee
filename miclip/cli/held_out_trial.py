"""``miclip evaluate`` without images: what judges, and what labels are made from, of a model that is not the demo's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miclip.cli import output
from miclip.errors import InvalidInput
from miclip.settings import settings

if TYPE_CHECKING:
    from miclip.alignment import ProbeSet
    from miclip.atlas import Atlas
    from miclip.evaluation.subject import Subject
    from miclip.models.target import TargetModel


def held_out_trial(
    model: TargetModel, layers: Sequence[str], probe_images: Path | None
) -> tuple[Subject, ProbeSet, bool]:
    """Judge a model on the images that its atlas set aside.

    Args:
        model: The model.
        layers: Layers whose units are judged.
        probe_images: The images that its atlas was made from; None looks for them among the probe sets of the settings
            and the bundles.

    Returns:
        The subject; the images that labels are made from; and whether they are at hand. Where they are not, the stored
        atlas is judged as it is.

    Raises:
        NotAligned: the model has no atlas.
        InvalidInput: the atlas holds no images, or ``probe_images`` are others.
    """
    from miclip.atlas import find_atlas
    from miclip.evaluation.stored import HeldOutImages, aligning_images, stored_probe
    from miclip.evaluation.subject import Subject

    atlas = find_atlas(model.name, model_weights_sha256=model.weights_sha256)
    judges = HeldOutImages(atlas)
    found = (aligning_images(atlas, probe) for probe in _probe_sets(atlas, probe_images))
    probe = next((images for images in found if images is not None), None)
    if probe is None and probe_images is not None:
        text = f"--probe-images: {probe_images.name!r} does not hold the images that {model.name} was aligned on."
        raise InvalidInput(text, field="--probe-images", allowed=f"the images of {atlas.manifest.probe.set!r}")
    output.note(f"Judged on {len(judges.names)} images of {judges.name}.")
    if probe is not None:
        return Subject(model, tuple(layers), judges, judges.labels), probe, True
    output.note(
        f"The images of {atlas.manifest.probe.set!r} are not at hand, so the stored atlas is judged as it is: one "
        "seed, and nothing that needs a new alignment. --probe-images names them."
    )
    return Subject(model, tuple(layers), judges, judges.labels, atlas=atlas), stored_probe(atlas), False


def _probe_sets(atlas: Atlas, probe_images: Path | None) -> Iterator[ProbeSet]:
    from miclip.alignment import DirectoryProbe
    from miclip.bundles import bundled_probe_sets
    from miclip.bundles.views import DrawingViews

    name = atlas.manifest.probe.set
    folder = probe_images or settings().probe_sets.get(name)
    if folder is not None:
        yield DirectoryProbe(folder)
    elif name in bundled_probe_sets():
        yield DrawingViews(*bundled_probe_sets()[name])
