"""The images that a command works on: those that the user names, or a demo model's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.errors import InvalidInput

if TYPE_CHECKING:
    from miclip.alignment import ProbeSet

ImageDir = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Images to align on: folder, .tar shards, Parquet, saved HF dataset. Only the demo's models need none.",
    ),
]
Most = Annotated[int, typer.Option("--limit", min=0, help="Use at most this many images, evenly spread; 0 is all.")]

_NAMED = 3
_MOST_LISTED = 1000


def probe_images(images: Path | None, limit: int, model: str) -> ProbeSet:
    """Return the images at a path, at most ``limit`` where that is not 0, or else those that come with a model.

    Args:
        images: See ``miclip.probe_sets.find_source``; None for a model that comes with images.
        limit: Of the images at the path.
        model: Id of the model.

    Raises:
        InvalidInput: there are no images at the path, or none is named and the model comes with none.
    """
    if images is not None:
        from miclip.probe_sets.images import open_images

        probe = open_images(images, limit)
        note_skipped(probe.skipped, probe.listed)
        return probe
    from miclip.bundles import bundle_of_model
    from miclip.bundles.views import DrawingViews
    from miclip.probe_sets.find import ALLOWED

    bundle = bundle_of_model(model)
    if bundle is None or bundle.manifest.images is None:
        text = (
            f"--images: {model} comes with no images. Name images like those that the model sees: {ALLOWED}. The "
            "demo's drawings are for the demo's models alone."
        )
        raise InvalidInput(text, field="--images", allowed=ALLOWED)
    return DrawingViews(bundle, bundle.manifest.images.probe)


def note_skipped(skipped: tuple[str, ...], listed: int) -> None:
    """Say which images were left out, where some were."""
    if skipped:
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        output.note(f"Skipped {len(skipped)} of {listed} images that cannot be decoded: "
                    f"{', '.join(skipped[:_NAMED])}{more}.")  # fmt: skip


def skipped_value(probe: ProbeSet) -> dict[str, Any]:
    """Return the images that were left out as JSON has them: how many, and the names of the first thousand."""
    skipped = getattr(probe, "skipped", ())
    return {"skipped": len(skipped), "skipped_images": list(skipped[:_MOST_LISTED])}
