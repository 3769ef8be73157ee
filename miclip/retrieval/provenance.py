"""What an answer from an atlas was computed from."""

from __future__ import annotations

from collections.abc import Sequence

from miclip.atlas import Atlas
from miclip.names import LayerName
from miclip.promise import Promise
from miclip.retrieval.results import Provenance


def promises_of(atlas: Atlas, layers: Sequence[str]) -> dict[str, Promise]:
    """Return the promises of those of some layers that have one."""
    promises = {layer: atlas.layer(layer).entry.promise for layer in layers}
    return {layer: promise for layer, promise in promises.items() if promise is not None}


def provenance(atlas: Atlas, layers: Sequence[str], vocabulary_sha256: str = "") -> Provenance:
    """Return what an answer from ``layers`` of an atlas was computed from; raises NotAligned for one it lacks."""
    manifest = atlas.manifest
    entries = [atlas.layer(name).entry for name in layers]
    return Provenance(
        atlas=atlas.name,
        clip_id=manifest.clip_id,
        vocabulary_sha256=vocabulary_sha256,
        probe_sha256=manifest.probe.sha256,
        encoder_sha256=tuple(manifest.files[entry.file].sha256 for entry in entries),
        layers=tuple(str(LayerName(manifest.model, name)) for name in layers),
        weights_sha256=manifest.weights_sha256,
    )
