"""``miclip atlases``: the atlases on this machine."""

from __future__ import annotations

from typing import Any

from miclip.cli import output, verdict
from miclip.errors import BadArtefact, NotAligned


def atlases(as_json: output.Json = False) -> None:
    """List the atlases of this machine: of which model, from which images, which are active, and their size."""
    from miclip.atlas import AtlasManifest, active_atlas_id, atlas_bytes, is_bundled, list_atlases

    def value(atlas_id: str, manifest: AtlasManifest) -> dict[str, Any]:
        try:
            active = active_atlas_id(manifest.model) == atlas_id
        except (NotAligned, BadArtefact):
            active = False
        return {
            "atlas": f"atlases/{atlas_id}", "model": manifest.model, "active": active, "bundled": is_bundled(atlas_id),
            "probe_set": manifest.probe.set, "images": manifest.probe.images, "views": manifest.probe.views,
            "layers": len(manifest.layers), "units": sum(layer.units for layer in manifest.layers),
            **verdict.of_manifest(manifest), "clip_id": manifest.clip_id, "bytes": atlas_bytes(atlas_id),
        }  # fmt: skip

    values = [value(*pair) for pair in sorted(list_atlases().items(), key=lambda pair: (pair[1].model, pair[0]))]
    output.emit(values, as_json, lambda: _show(values))


def _show(values: list[dict[str, Any]]) -> None:
    shown = output.table("atlas", "model", "active", "images", ">number", ">layers", ">labelled", ">units", ">MB")
    shown.columns[0].no_wrap = True  # an id is copied into the next command
    for value in values:
        kept = sum(promise["reached"] for promise in value["promises"].values())
        cells = (value["images"], value["layers"], kept, value["units"], f"{value['bytes'] / 1e6:.1f}")
        shown.add_row(
            value["atlas"].removeprefix("atlases/")[:12], output.text(value["model"]),
            "[green]active[/]" if value["active"] else "", output.text(value["probe_set"]), *map(str, cells),
        )  # fmt: skip
    output.show("Atlases", shown)
