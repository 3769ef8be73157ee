"""What an alignment found of its images and of the labels of every layer, as the command line says it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from miclip.promise import Promise, Verdict, advice
from miclip.wire.promise import read_promise, read_verdict

if TYPE_CHECKING:
    from miclip.atlas import AtlasManifest
    from miclip.v1.aligner_pb2 import Atlas


def of_manifest(manifest: AtlasManifest) -> dict[str, Any]:
    """Return the verdict of an atlas on this machine, and its promises by layer."""
    promises = {layer.name: asdict(layer.promise) for layer in manifest.layers if layer.promise}
    return {"verdict": asdict(manifest.verdict) if manifest.verdict else None, "promises": promises}


def of_message(atlas: Atlas) -> dict[str, Any]:
    """Return the same of an atlas of the server."""
    promises = dict(read_promise(layer.promise) for layer in atlas.layers if layer.HasField("promise"))
    verdict = asdict(read_verdict(atlas.verdict)) if atlas.HasField("verdict") else None
    return {"verdict": verdict, "promises": {layer: asdict(promise) for layer, promise in promises.items()}}


def sentences(value: dict[str, Any]) -> list[str]:
    """Return what people read: what is promised of each layer, what the images show, and what to do about it."""
    promises = {layer: Promise(**promise) for layer, promise in value["promises"].items()}
    found = [f"{layer}: {promise}." for layer, promise in promises.items()]
    if value["verdict"]:
        verdict = Verdict(**value["verdict"])
        reached = any(promise.reached for promise in promises.values())
        found.append(f"{verdict}. {advice(verdict, reached or not promises)}".strip())
    return found
