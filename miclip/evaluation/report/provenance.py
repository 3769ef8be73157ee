"""Where the figures and the pictures come from: hashes and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import miclip
from miclip.evaluation.report.exhibit import Exhibit
from miclip.evaluation.result import Result


@dataclass(frozen=True)
class Provenance:
    """Hashes and settings; it holds no date, so that equal inputs make an equal report.

    Attributes:
        result_sha256: Of the result.
        version: Of miclip.
        models: Models with pictures.
        facts: Name of a fact, and what it is for each of the models.
    """

    result_sha256: str
    version: str
    models: Sequence[str]
    facts: Sequence[tuple[str, Sequence[str]]]


def provenance(result: Result, exhibits: Sequence[Exhibit]) -> Provenance:
    """Return what the figures of a result and the pictures of its models come from."""
    columns = [_facts(exhibit) for exhibit in exhibits]
    names = dict.fromkeys(name for column in columns for name in column)
    facts = [(name, [column.get(name, "–") for column in columns]) for name in names]
    return Provenance(result_sha256(result), miclip.__version__, [exhibit.model.name for exhibit in exhibits], facts)


def result_sha256(result: Result) -> str:
    """Return the SHA-256 of a result as JSON with sorted keys, however its file is indented."""
    value = result.model_dump(mode="json")
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _facts(exhibit: Exhibit) -> dict[str, str]:
    atlas = exhibit.searcher.atlas
    manifest = atlas.manifest
    return {
        "atlas of the pictures": atlas.atlas_id,
        "weights of the model": manifest.weights_sha256,
        "CLIP": manifest.clip_id,
        "probe set": f"{manifest.probe.set}, {manifest.probe.images} images, {manifest.probe.views} views",
        "probe images": manifest.probe.sha256,
        "held-out images": exhibit.held_out.sha256,
        "licence": manifest.licence,
        **{f"alignment: {name.replace('_', ' ')}": str(value) for name, value in sorted(manifest.settings.items())},
    }
