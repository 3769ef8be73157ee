"""An atlas of one seed, made for an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from miclip.alignment import AlignmentConfig, ProbeSet, align_model
from miclip.atlas import Atlas
from miclip.models.clip import Clip
from miclip.models.target import TargetModel
from miclip.progress import Progress

Report = Callable[[str, int, int], None]
"""Called with stage, done, in all."""


def aligned(
    model: TargetModel,
    clip: Clip,
    probe: ProbeSet,
    layers: Sequence[str],
    seed: int,
    store: Path,
    atlases: Path,
    report: Report,
) -> Atlas:
    """Align ``model`` with one seed and open the atlas.

    Args:
        model: The target model.
        clip: The CLIP model.
        probe: Images to align on.
        layers: Layers to align.
        seed: Of the encoders.
        store: Directory of activation stores, which a later run goes on with.
        atlases: Receives the atlas.
        report: Told of progress.
    """
    config = AlignmentConfig(layers=tuple(layers))
    config = replace(config, encoder=replace(config.encoder, seed=seed))

    def told(now: Progress) -> None:
        report(f"{model.name} seed {seed}: {now.stage}", now.done, now.total)

    atlas_id = align_model(model, clip, probe, config, store=store, atlas_root=atlases, report=told)
    return Atlas.open(atlases, atlas_id, model_weights_sha256=model.weights_sha256)
