"""``miclip picture``: units as PNG files, drawn in this process, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.cli.options import DEFAULT_MODEL, Model
from miclip.cli.photos import read_image
from miclip.cli.specs import full_layer, parse_units, short_layer, short_unit
from miclip.errors import BadArtefact, InvalidInput
from miclip.names import UnitName

if TYPE_CHECKING:
    from torch import Tensor

    from miclip.alignment import ProbeSet
    from miclip.atlas import Atlas
    from miclip.models.target import TargetModel
    from miclip.retrieval.results import Description
    from miclip.retrieval.search import AtlasSearcher

app = typer.Typer(
    cls=output.Commands, no_args_is_help=True, help="Draw units: their images, their map, their layer (miclip\\[plot])."
)

Unit = Annotated[str, typer.Argument(help="Unit: LAYER/UNIT, LAYER@DICTIONARY/FEATURE, MODEL/… or the full name.")]
Layer = Annotated[
    str, typer.Argument(help="Layer, or LAYER@DICTIONARY; default: the last one before the logits.", parser=full_layer)
]
Out = Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.")]
Count = Annotated[int, typer.Option("--top-k", "-k", min=1, max=16, help="Images, strongest first.")]
ImageDir = Annotated[
    Path | None, typer.Option("--images", help="Images that the model was aligned on; default: the atlas's thumbnails.")
]
SomeImage = Annotated[
    Path | None,
    typer.Argument(
        metavar="IMAGE", help="PNG, JPEG, WebP, GIF or BMP; default: one in the atlas that drives the unit."
    ),
]


@app.command(name="unit")
def sheet(
    unit: Unit, out: Out, model: Model = DEFAULT_MODEL, top_k: Count = 16, images: ImageDir = None,
    as_json: output.Json = False,
) -> None:  # fmt: skip
    """Draw the images that drive a unit most, strongest first: can you see what its label says?

    Examples:
        miclip picture unit layer4/10 --out unit.png

        miclip picture unit photos-resnet/layer4/7 --out unit.png

        miclip picture unit photos-resnet/layer4/7 --images photos/ --out unit.png
    """
    save = _saver(out)
    (name,) = parse_units([unit], model)
    searcher = _searcher(name.model)
    description = _describe(searcher, name)
    top = searcher.unit_record(name.layer, name.unit, neighbours=1).top_images[:top_k]
    from miclip.pictures.figures import sheet_figure

    pixels = _images(searcher.atlas, [image.row for image in top], images)
    captions = [f"{place}. {_short(image.image)}\n{image.value:.2f}" for place, image in enumerate(top, 1)]
    save(sheet_figure(f"{_title(name, description)}\nimages that drive it most", pixels, captions))
    if missing := sum(image is None for image in pixels):
        output.note(f"{missing} of {len(top)} images have no thumbnail: --images names the folder that has them.")
    shown = [{"image": image.image, "activation": image.value} for image in top]
    _emit(out, {"unit": str(name), "label": _label(description), "images": shown}, as_json)


@app.command(name="map")
def spatial(
    unit: Unit, out: Out, image: SomeImage = None, model: Model = DEFAULT_MODEL, as_json: output.Json = False
) -> None:
    """Draw where on an image a unit is active, and where it speaks for the prediction.

    Examples:
        miclip picture map layer4/10 photo.png --out map.png

        miclip picture map layer4/10 --out map.png
    """
    save, data = _saver(out), read_image(image) if image else None
    (name,) = parse_units([unit], model)
    searcher = _searcher(name.model)
    description = _describe(searcher, name)
    from miclip.catalogue import load_target
    from miclip.images import decode_image
    from miclip.pictures.figures import map_figure
    from miclip.pictures.spatial import unit_maps

    target = load_target(name.model)
    shown = str(image)
    if data is None:
        pixels, shown = _strongest(target, searcher.atlas, name)
    else:
        pixels = decode_image(data, field="IMAGE")
    (found,) = unit_maps(target, [pixels], name.layer, [name.unit])
    save(map_figure(f"{_title(name, description)} · {image.name if image else shown}", found))
    row, column = divmod(int(found.activation.argmax()), found.activation.shape[1])
    value = {
        "unit": str(name), "label": _label(description), "image": shown, "predicted": found.predicted,
        "positions": list(found.activation.shape), "hottest": [row, column],
        "activation": float(found.activation.max()), "attribution": float(found.attribution.sum()),
    }  # fmt: skip
    _emit(out, value, as_json)


@app.command(name="units")
def projection(out: Out, layer: Layer = "", model: Model = DEFAULT_MODEL, as_json: output.Json = False) -> None:
    """Draw the units of a layer as points, alike ones near each other, in the colours of what they mean.

    Groups are emojibase's super-categories for the demo's models, clusters of the model's labels for others.

    Examples:
        miclip picture units layer4 --out units.png
    """
    save, searcher = _saver(out), _searcher(model)
    from miclip.pictures.figures import units_figure
    from miclip.pictures.projection import project_units

    layer = layer or searcher.atlas.default_layer
    found = project_units(searcher, layer, label_groups(searcher))
    save(units_figure(f"Units of {model} {short_layer(layer)} by meaning", found))
    counts = {name: found.groups.count(name) for name in found.names}
    value = {"model": model, "layer": layer, "units": len(found.points), "groups": counts,
             "abstained": found.groups.count("")}  # fmt: skip
    _emit(out, value, as_json)


def label_groups(searcher: AtlasSearcher) -> dict[str, str]:
    """Return the group of every label of a model: super-categories where they are known, else clusters."""
    from miclip.demo.groups import demo_groups
    from miclip.pictures.projection import label_clusters

    known, labels = demo_groups(), searcher.labels
    if set(labels.concepts) <= known.keys():
        return known
    return label_clusters(labels.concepts, searcher.centre(labels.embeddings))


def _saver(out: Path) -> Any:
    """Check the file's name before any work is done."""
    from miclip.pictures.canvas import check_png, save

    check_png(out, "--out")
    return lambda figure: save(figure, out, "--out")


def _searcher(model: str) -> AtlasSearcher:
    from miclip.atlas import find_atlas
    from miclip.retrieval.search import AtlasSearcher

    return AtlasSearcher(find_atlas(model))


def probe_of(atlas: Atlas, images: Path | None = None) -> ProbeSet:
    """Return the images that an atlas was made from: those of a folder, else the demo's; raises InvalidInput."""
    from miclip.probe_sets.images import open_images

    if images is not None:
        return open_images(images)
    probe = _bundled_probe(atlas)
    if probe is None:
        model, probe_set = atlas.manifest.model, atlas.manifest.probe.set
        text = f"--images: {model} was aligned on {probe_set!r}; give the folder of its images."
        raise InvalidInput(text, field="--images", allowed="the folder that the model was aligned on")
    return probe


def _bundled_probe(atlas: Atlas) -> ProbeSet | None:
    """Return the demo's images where the atlas was made from them, else None; raises BadArtefact."""
    from miclip.demo.probe import demo_probe

    probe, entry = demo_probe(), atlas.manifest.probe
    if entry.set != probe.name:
        return None
    if entry.sha256 != probe.sha256:
        raise BadArtefact(f"The atlas of {atlas.manifest.model} was made from other views of the demo's drawings.")
    return probe


def _images(atlas: Atlas, rows: list[int], images: Path | None) -> Sequence[Tensor | None]:
    """Return images of rows of an atlas: of the folder, or of the demo, or the atlas's thumbnails."""
    from miclip.pictures.probe import ProbeImages
    from miclip.pictures.stored import thumbnails

    if images is None and _bundled_probe(atlas) is None:
        return thumbnails(atlas, rows)
    return ProbeImages(atlas, probe_of(atlas, images)).load(rows)


def _strongest(target: TargetModel, atlas: Atlas, name: UnitName) -> tuple[Tensor, str]:
    """Return an image that drives a unit, and what it is: of the demo, a held-out one, or a thumbnail."""
    from miclip.pictures.stored import strongest_held_out

    layer = atlas.layer(name.layer)
    row = int(layer.top_images[name.unit][0])
    if (
        _bundled_probe(atlas) is None
        and (image := strongest_held_out(target, atlas, name.layer, name.unit)) is not None
    ):
        return image, "the strongest held-out image"
    (found,) = _images(atlas, [row], None) if row >= 0 else (None,)
    if found is None:
        text = f"IMAGE: the atlas of {name.model} has no image of this unit; name one."
        raise InvalidInput(text, field="IMAGE", allowed="an image file")
    return found, atlas.probe_images[row]


def _describe(searcher: AtlasSearcher, name: UnitName) -> Description:
    (found,) = searcher.describe(name.layer, [name.unit], searcher.labels, top_k=2)
    return found


def _title(name: UnitName, found: Description) -> str:
    best = found.concepts[0]
    said = f"cosine {best.score:.2f}, causal score {best.causal_score:+.2f}, null {found.null_percentile:.0f} %"
    meaning = f"({best.concept}) abstains" if found.abstained else best.concept
    return f"{name.model} {short_unit(name)}: {meaning} · {said}"


def _label(found: Description) -> str | None:
    return None if found.abstained else found.concepts[0].concept


def _short(image: str) -> str:
    """The end of a path, which says more than its beginning; long ones are cut."""
    end = image.rpartition("/")[2]
    return end if len(end) <= 18 else end[:17] + "…"


def _emit(out: Path, value: dict[str, Any], as_json: bool) -> None:
    output.emit({"file": str(out), **value}, as_json, lambda: output.out.print(f"Wrote {output.text(out)}."))
