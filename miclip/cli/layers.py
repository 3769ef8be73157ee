"""``miclip layers``: the layers of a model, aligned or not, known or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.cli.sources import FORMS, Inputs, Labels, Mean, Size, Std, given
from miclip.cli.specs import short_layer
from miclip.errors import NotAligned

if TYPE_CHECKING:
    from miclip.catalogue import Catalogue
    from miclip.models.inspection import LayerShape

Named = Annotated[str, typer.Argument(metavar="MODEL", help=f"A model that is known, or {FORMS}.")]
Every = Annotated[bool, typer.Option("--all", help="Every submodule that --layer of `miclip align` can name.")]


def layers(
    model: Named, every: Every = False, labels: Labels = None, size: Size = 0, mean: Mean = "", std: Std = "",
    as_json: output.Json = False,
) -> None:  # fmt: skip
    """List the layers of a model, with their units and shapes: of a known one, or of one not imported yet.

    A source needs no weights: the layers do not depend on them.

    Examples:
        miclip layers emoji-vit

        miclip layers timm/resnet50

        miclip layers net.py:make_model --size 64 --all
    """
    from miclip.catalogue import Catalogue
    from miclip.models.sources import is_source

    catalogue = Catalogue()
    if model in catalogue.model_ids() or not is_source(model):
        value = _of_known(catalogue, model, every)
    else:
        value = _of_source(model, every, labels, Inputs(size, mean, std))
    output.emit(value, as_json, lambda: _show(value))


def _of_known(catalogue: Catalogue, model: str, every: bool) -> dict[str, Any]:
    from miclip.models.inspection import layer_shapes

    target = catalogue.load_target(model, "cpu")
    aligned = _aligned(model)
    shown = layer_shapes(target.module, target.input_size, list(target.layers), target.layout, every=every)
    found = [_value(layer, layer.name in aligned) for layer in shown]
    for name, sae in target.dictionaries.items():
        after = next(place for place, layer in enumerate(found) if layer["layer"] == sae.base) + 1
        found.insert(after, {"layer": name, "kind": "features", "units": sae.features, "shape": [sae.features],
                             "default": True, "aligned": name in aligned})  # fmt: skip
    return {"model": model, "input_size": target.input_size, "labels": len(target.labels), "layers": found}


def _of_source(source: str, every: bool, labels: Path | None, inputs: Inputs) -> dict[str, Any]:
    from miclip.models.inspection import layer_shapes
    from miclip.models.sources import build_foreign

    spec, module = build_foreign(source, given(labels, [], inputs))
    shown = layer_shapes(module, spec.preprocessing.size, spec.layers, spec.layout, every=every)
    found = [_value(layer, False) for layer in shown]
    return {"model": source, "input_size": spec.preprocessing.size, "labels": len(spec.labels), "layers": found}


def _aligned(model: str) -> set[str]:
    from miclip.atlas import active_atlas_id, locate_atlas, read_manifest

    try:
        return {entry.name for entry in read_manifest(locate_atlas(active_atlas_id(model))).layers}
    except NotAligned:
        return set()


def _value(layer: LayerShape, aligned: bool) -> dict[str, Any]:
    return {"layer": layer.name, "kind": str(layer.kind), "units": layer.units, "shape": list(layer.shape),
            "default": layer.default, "aligned": aligned}  # fmt: skip


def _show(value: dict[str, Any]) -> None:
    shown = output.table("layer", "kind", ">units", "output", "aligned")
    for layer in value["layers"]:
        shape = " × ".join(map(str, layer["shape"]))
        name = output.text(short_layer(layer["layer"]))
        aligned = "yes" if layer["aligned"] else "no" if layer["default"] else "–"
        shown.add_row(name, layer["kind"], str(layer["units"]), shape, aligned)
    every = any(not layer["default"] for layer in value["layers"])
    caption = "–: no layer unless `miclip align --layer` names it" if every else ""
    output.show(f"Layers of {value['model']}, input {value['input_size']} × {value['input_size']}", shown, caption)
