"""``miclip align``: make an atlas of a model, here or on the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.cli.connect import client
from miclip.cli.options import Layers
from miclip.cli.progress import progress_bar
from miclip.errors import AlreadyExists, Internal, InvalidInput, Unreachable
from miclip.progress import Progress, Report, Stage
from miclip.settings import settings

if TYPE_CHECKING:
    from miclip.alignment import AlignmentConfig, ProbeSet
    from miclip.models.target import TargetModel
    from miclip.v1.aligner_pb2 import Alignment

Source = Annotated[
    str, typer.Option("--model", "-m", help="timm/NAME, torchvision/NAME, open_clip/NAME, or a model that is known.")
]
Weights = Annotated[str, typer.Option(help="File (safetensors or a torch checkpoint of tensors), or `hub`.")]
ImageDir = Annotated[Path | None, typer.Option("--images", help="Folder of images to align on; default the demo's.")]
Labels = Annotated[Path | None, typer.Option(help="Names of the outputs: JSON list, or one a line. 1000: ImageNet's.")]
Name = Annotated[str, typer.Option("--id", help="Id to keep the model under; default from its name.")]
Most = Annotated[int, typer.Option("--limit", min=0, help="Use at most this many images, evenly spread; 0 is all.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")]
Steps = Annotated[int | None, typer.Option(min=1, max=100_000, help="Optimiser steps of every layer's encoder.")]
OutputWeight = Annotated[float | None, typer.Option(min=0, max=100, help="Weight of the loss against the labels.")]
InputWeight = Annotated[float | None, typer.Option(min=0, max=100, help="Weight of the loss against the images.")]
Activate = Annotated[bool, typer.Option(help="Let the new atlas answer for the model.")]
Remote = Annotated[bool, typer.Option("--remote", help="Let the server do it, and watch.")]
ProbeName = Annotated[str, typer.Option("--probe-set", help="With --remote: a probe set that the server knows.")]


def align(  # the options of the command
    model: Source,
    weights: Weights = "",
    images: ImageDir = None,
    labels: Labels = None,
    name: Name = "",
    layers: Layers = None,
    limit: Most = 0,
    seed: Seed = 0,
    steps: Steps = None,
    output_weight: OutputWeight = None,
    input_weight: InputWeight = None,
    activate: Activate = True,
    remote: Remote = False,
    probe_set: ProbeName = "",
    as_json: output.Json = False,
) -> None:
    """Align a model: one pass over the images, then one linear encoder a layer, written as an atlas.

    Ctrl-C stops it; the same command goes on where it stopped.

    Examples:
        miclip align --model timm/resnet50 --weights resnet50.safetensors --images photos/

        miclip align --model emoji-vit --remote
    """
    chosen = {"seed": seed, "steps": steps, "output_weight": output_weight, "input_weight": input_weight}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    where = [layer for layer in layers or [] if layer != "all"]
    if remote:
        if weights or images or labels or name or limit:
            raise InvalidInput("--remote: the server aligns models and probe sets that it knows; leave out --weights, "
                               "--images, --labels, --id and --limit.", field="--remote")  # fmt: skip
        value = _on_server(model, probe_set, where, chosen, activate)
    else:
        value = _here(model, weights, images, labels, name, where, limit, chosen, activate)
    output.emit(value, as_json, lambda: _show(value))


def _here(
    model: str, weights: str, images: Path | None, labels: Path | None, name: str, layers: list[str], limit: int,
    chosen: dict[str, Any], activate: bool,
) -> dict[str, Any]:  # fmt: skip
    from miclip.alignment import align_model
    from miclip.atlas import atlas_root
    from miclip.catalogue import load_clip

    target = _target(model, weights, labels, name, layers)
    probe = probe_images(images, limit)
    try:
        with progress_bar() as report:
            atlas = align_model(
                target, load_clip(), probe, _config(layers, chosen), store=settings().activations_dir,
                atlas_root=atlas_root(), report=report,
            )  # fmt: skip
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    if activate:
        _activate(atlas)
    return {
        "model": target.name, "atlas": f"atlases/{atlas}", "active": activate, "images": len(probe.names),
        "held_out": held_out_images(atlas),
    }  # fmt: skip


def held_out_images(atlas_id: str) -> int:
    """Return how many images an atlas holds that it was not made from."""
    from miclip.atlas import HELD_OUT, locate_atlas, read_manifest

    entry = read_manifest(locate_atlas(atlas_id)).pictures.get(HELD_OUT)
    return entry.pictures if entry else 0


def _target(model: str, weights: str, labels: Path | None, name: str, layers: list[str]) -> TargetModel:
    """Return the model; one named by its library is imported once, and kept so that it can be served."""
    from miclip.catalogue import Catalogue, default_id
    from miclip.models.loaders import HUB, read_labels

    catalogue = Catalogue()
    if "/" not in model:
        if weights or labels or name:
            text = "--weights, --labels and --id are for a model that --model names as its library does: timm/NAME."
            raise InvalidInput(text, field="--weights")
        return catalogue.load_target(model)
    known = name or default_id(model)
    names = read_labels(labels) if labels else ()
    if known in catalogue.model_ids():
        target = catalogue.load_target(known)
        if weights and not weights.startswith(HUB):
            _check_same(target, model, weights, names)
        output.note(f"Using the model that was imported as {known}; another --id imports it anew.")
        return target
    if not weights:
        raise InvalidInput("--weights: name a local file, or `hub` for the published weights.", field="--weights",
                           allowed="a file, or hub")  # fmt: skip
    catalogue.import_model(known, model, weights, labels=names, layers=layers)
    return catalogue.load_target(known)


def _check_same(known: TargetModel, source: str, weights: str, labels: Sequence[str]) -> None:
    from miclip.models.loaders import as_target, load_foreign

    if not (labels or source.startswith("open_clip/")):
        labels = known.labels
    given = as_target(known.name, *load_foreign(source, weights, labels=labels))
    if (given.weights_sha256, given.labels) != (known.weights_sha256, known.labels):
        text = f"There is a model {known.name!r} already, of other weights or labels; choose another --id."
        raise AlreadyExists(text, field="--id")


def probe_images(images: Path | None, limit: int) -> ProbeSet:
    """Return the images of a folder, at most ``limit`` where that is not 0, or else the demo's."""
    if images is not None:
        from miclip.alignment import DirectoryProbe

        probe = DirectoryProbe(images, limit)
        if skipped := probe.skipped:
            more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
            output.note(f"Skipped, for they cannot be decoded: {', '.join(skipped[:3])}{more}.")
        return probe
    from miclip.demo.probe import demo_probe

    return demo_probe()


def _config(layers: list[str], chosen: dict[str, Any]) -> AlignmentConfig:
    from miclip.alignment import AlignmentConfig, EncoderSettings

    return AlignmentConfig(layers=tuple(layers), encoder=EncoderSettings(**chosen))


def _activate(atlas: str) -> None:
    """Activate through the running server, which then answers from the new atlas at once; else on disk."""
    from miclip.atlas import activate_atlas

    try:
        with client(attempts=1) as connected:
            connected.activate_atlas(atlas)
    except Unreachable:
        activate_atlas(atlas)


def _on_server(model: str, probe_set: str, layers: list[str], chosen: dict[str, Any], activate: bool) -> dict[str, Any]:
    with client() as connected:
        created = connected.create_alignment(model, probe_set=probe_set, layers=layers, activate=activate, **chosen)
        job = created
        try:
            with progress_bar() as report:
                for job in connected.watch_alignment(created.name):
                    _report(job, report)
        except KeyboardInterrupt:
            output.note(f"{created.name} goes on in the server, until miclip.client's cancel_alignment ends it.")
            raise typer.Exit(130) from None
    return _ended(job, activate)


def _report(job: Alignment, report: Report) -> None:
    if job.total:
        loss = job.loss if job.HasField("loss") else None
        report(Progress(Stage.named(job.stage), job.done, job.total, loss))


def _ended(job: Alignment, activate: bool) -> dict[str, Any]:
    from miclip.v1.aligner_pb2 import ALIGNMENT_STATE_SUCCEEDED, AlignmentState

    if job.state != ALIGNMENT_STATE_SUCCEEDED:
        state = AlignmentState.Name(job.state).removeprefix("ALIGNMENT_STATE_").lower()
        raise Internal(f"{job.name} {state}. {job.error}".strip())
    return {"model": job.model.removeprefix("models/"), "atlas": job.atlas, "active": activate, "alignment": job.name}


def _show(value: dict[str, Any]) -> None:
    model, short = output.text(value["model"]), value["atlas"].removeprefix("atlases/")[:12]
    output.out.print(f"[bold green]Aligned[/] {model}: atlas {short}{', active' if value['active'] else ''}.")
    if held_out := value.get("held_out"):
        output.out.print(f"{held_out} of its {value['images']} images were set aside, to measure it on.")
    local = "" if "alignment" in value else " --local"
    output.out.print(f"Try: [bold]miclip describe --model {model}{local}[/]")
