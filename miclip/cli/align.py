"""``miclip align``: make an atlas of a model, here or on the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output, verdict
from miclip.cli.connect import client
from miclip.cli.probe_images import ImageDir, Most, probe_images, skipped_value
from miclip.cli.progress import progress_bar
from miclip.cli.sources import Inputs, Labels, Layers, Mean, Size, Source, Std, Weights, target_of
from miclip.errors import Internal, InvalidInput, Unreachable
from miclip.progress import Progress, Report, Stage
from miclip.settings import settings

if TYPE_CHECKING:
    from miclip.alignment import AlignmentConfig
    from miclip.v1.aligner_pb2 import Alignment

Name = Annotated[str, typer.Option("--id", help="Id to keep the model under; default from its name.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")]
Steps = Annotated[int | None, typer.Option(min=1, max=100_000, help="Optimiser steps of every layer's encoder.")]
OutputWeight = Annotated[float | None, typer.Option(min=0, max=100, help="Weight of the loss against the labels.")]
InputWeight = Annotated[float | None, typer.Option(min=0, max=100, help="Weight of the loss against the images.")]
ClipChoice = Annotated[
    str,
    typer.Option("--clip", help="Shared space: NAME:FILE, NAME:hub:TAG, an OpenCLIP folder, or a known one; demo."),
]
Activate = Annotated[bool, typer.Option(help="Let the new atlas answer for the model.")]
Remote = Annotated[bool, typer.Option("--remote", help="Let the server do it, and watch.")]
ProbeName = Annotated[str, typer.Option("--probe-set", help="With --remote: a probe set that the server knows.")]


def align(  # the options of the command
    model: Source,
    weights: Weights = "",
    images: ImageDir = None,
    clip: ClipChoice = "",
    labels: Labels = None,
    name: Name = "",
    layers: Layers = None,
    size: Size = 0,
    mean: Mean = "",
    std: Std = "",
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

        miclip align --model photos --images 'shards/{000..003}.tar' --clip ViT-B-16:vit-b-16.safetensors

        miclip align --model ./my-vit/ --images photos/

        miclip align --model net.py:make_model --labels labels.txt --images photos/ --size 64

        miclip align --model emoji-vit --remote
    """
    chosen = {"seed": seed, "steps": steps, "output_weight": output_weight, "input_weight": input_weight}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    where = [layer for layer in layers or [] if layer != "all"]
    if remote:
        if weights or images or labels or name or limit or size or mean or std:
            raise InvalidInput("--remote: the server aligns models and probe sets that it knows; leave out --weights, "
                               "--images, --labels, --id, --size, --mean, --std and --limit.",
                               field="--remote")  # fmt: skip
        value = _on_server(model, probe_set, clip, where, chosen, activate)
    else:
        if probe_set:
            text = "--probe-set: names a probe set of the server, for --remote. Name your images with --images."
            raise InvalidInput(text, field="--probe-set")
        inputs = Inputs(size, mean, std)
        value = _here(model, weights, images, clip, labels, name, where, inputs, limit, chosen, activate)
    output.emit(value, as_json, lambda: _show(value))


def _here(
    model: str, weights: str, images: Path | None, clip: str, labels: Path | None, name: str, layers: list[str],
    inputs: Inputs, limit: int, chosen: dict[str, Any], activate: bool,
) -> dict[str, Any]:  # fmt: skip
    from miclip.alignment import align_model
    from miclip.atlas import atlas_root, locate_atlas, read_manifest
    from miclip.clips import choose_clip

    target = target_of(model, weights, labels, name, layers, inputs)
    space = choose_clip(clip)  # before the images, of which there may be many to read
    probe = probe_images(images, limit, target.name)
    _note_space(target.name, clip)
    try:
        with progress_bar() as report:
            atlas = align_model(
                target, space, probe, _config(layers, chosen), store=settings().activations_dir,
                atlas_root=atlas_root(), report=report,
            )  # fmt: skip
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    if activate:
        _activate(atlas)
    return {
        "model": target.name, "atlas": f"atlases/{atlas}", "active": activate, "clip_id": space.clip_id,
        "images": len(probe.names), "held_out": held_out_images(atlas), **skipped_value(probe),
        **verdict.of_manifest(read_manifest(locate_atlas(atlas))),
    }  # fmt: skip


def held_out_images(atlas_id: str) -> int:
    """Return how many images an atlas holds that it was not made from."""
    from miclip.atlas import HELD_OUT, locate_atlas, read_manifest

    entry = read_manifest(locate_atlas(atlas_id)).pictures.get(HELD_OUT)
    return entry.pictures if entry else 0


def _note_space(model: str, clip: str) -> None:
    """Say that no CLIP was chosen, where the default one has hardly seen what the model sees."""
    from miclip.bundles import bundle_of_model

    if not (clip or settings().clip or bundle_of_model(model)):
        output.note("Using the bundled CLIP, which has seen emoji alone. For photographs add --clip NAME:FILE, such as "
                    "ViT-B-16:vit-b-16.safetensors.")  # fmt: skip


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


def _on_server(
    model: str, probe_set: str, clip: str, layers: list[str], chosen: dict[str, Any], activate: bool
) -> dict[str, Any]:
    with client() as connected:
        created = connected.create_alignment(
            model, probe_set=probe_set, clip=clip, layers=layers, activate=activate, **chosen
        )
        job = created
        try:
            with progress_bar() as report:
                for job in connected.watch_alignment(created.name):
                    _report(job, report)
        except KeyboardInterrupt:
            output.note(f"{created.name} goes on in the server, until miclip.client's cancel_alignment ends it.")
            raise typer.Exit(130) from None
        done = _ended(job, activate)
        return done | verdict.of_message(connected.get_atlas(job.atlas))


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
    for sentence in verdict.sentences(value):
        output.out.print(output.text(sentence))
    local = "" if "alignment" in value else " --local"
    output.out.print(f"Try: [bold]miclip describe --model {model}{local}[/]")
