"""``miclip models``: the models that this machine knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miclip.cli import output
from miclip.errors import BadArtefact, InvalidInput, MiclipError, NotAligned

if TYPE_CHECKING:
    from miclip.catalogue import Catalogue


def models(as_json: output.Json = False) -> None:
    """List the models of this machine: where each comes from, its layers, its atlas and its licence."""
    from miclip.catalogue import Catalogue

    catalogue = Catalogue()
    values = [_value(catalogue, model) for model in catalogue.model_ids()]
    output.emit(values, as_json, lambda: _show(values))


def _value(catalogue: Catalogue, model: str) -> dict[str, Any]:
    """Return a model as plain values; ``error`` says why one cannot be used, which must not hide the others."""
    origin, (atlas, licence) = catalogue.origin(model), _atlas(model)
    licence = licence if origin == "bundle" else ""  # elsewhere it is that of the images
    value: dict[str, Any] = {"model": model, "origin": origin, "source": "", "layers": [], "labels": 0,
                             "atlas": atlas, "licence": licence, "error": None}  # fmt: skip
    try:
        spec, card = catalogue.spec(model), catalogue.card(model)
    except (BadArtefact, InvalidInput) as error:
        return value | {"error": error.message}
    layers = [{"layer": layer.name, "kind": str(layer.kind), "units": layer.units} for layer in card.layers]
    if spec is not None:
        value |= {"source": spec.source or spec.architecture, "licence": spec.licence or licence}
    else:
        value |= {"source": catalogue.entry(model).source}
    return value | {"layers": layers, "labels": len(card.labels)}


def _atlas(model: str) -> tuple[str, str]:
    """Name of the model's active atlas, and the licence of the images it was made from; both empty without one."""
    from miclip.atlas import active_atlas_id, locate_atlas, read_manifest

    try:
        atlas = active_atlas_id(model)
        return f"atlases/{atlas}", read_manifest(locate_atlas(atlas)).licence
    except NotAligned:
        return "", ""
    except MiclipError:  # a damaged list, or an atlas that is gone: `miclip atlases` says so
        return "", ""


def _show(values: list[dict[str, Any]]) -> None:
    shown = output.table("model", "source", ">layers", ">units", ">labels", "atlas", "licence")
    for value in values:
        units = sum(layer["units"] for layer in value["layers"])
        atlas = value["atlas"].removeprefix("atlases/")[:12]
        aligned = output.text(value["error"]) if value["error"] else atlas or "[dim]not aligned[/]"
        cells = (value["model"], value["source"], len(value["layers"]), units, value["labels"])
        shown.add_row(*map(output.text, cells), aligned, output.text(value["licence"]))
    output.show("Models", shown, "layers and units: with the logits and the features of dictionaries")
