"""``miclip sae``: dictionaries, sparse autoencoders on a layer, whose features are units like neurons are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output
from miclip.cli.align import Seed
from miclip.cli.probe_images import ImageDir, Most, probe_images
from miclip.cli.progress import progress_bar
from miclip.cli.specs import short_layer
from miclip.errors import AlreadyExists, InvalidInput
from miclip.names import check_id
from miclip.settings import settings

if TYPE_CHECKING:
    from miclip.models.sae import SparseAutoencoder
    from miclip.models.target import TargetModel

app = typer.Typer(
    cls=output.Commands, no_args_is_help=True, help="Dictionaries: train sparse autoencoders, import and list them."
)

_NOTE = """\
size: features · keeps: variance of the layer that is explained · L0: features active at a position · live: features
that ever are · same: predictions that stay with the reconstruction in the layer's place; on images not trained on"""

Model = Annotated[str, typer.Option("--model", "-m", help="Target model, as `miclip status` lists them.")]
Layer = Annotated[str, typer.Option("--layer", "-l", help="Layer of neurons, not the logits.")]
Id = Annotated[str, typer.Option("--id", help="Id of the dictionary; default ARCHITECTURE-FEATURES, or the folder.")]
Architecture = Annotated[str, typer.Option(help="What makes codes sparse: topk, batchtopk, jumprelu or relu.")]
Features = Annotated[int, typer.Option(min=0, help="Number of features; 0 is four times the layer's units.")]
Active = Annotated[int, typer.Option("--k", min=1, help="Features of a position (topk), or on average (batchtopk).")]
Sparsity = Annotated[float, typer.Option(min=0, help="Weight of the penalty on codes, of jumprelu and relu.")]
Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps.")]
Batch = Annotated[int, typer.Option(min=2, help="Activation vectors a step.")]
LearningRate = Annotated[
    float, typer.Option(min=0, help="Adam's learning rate; 0 follows from the number of features.")
]
Normalisation = Annotated[str, typer.Option(help="Of the input: none, layer_norm or constant_norm_rescale.")]
ClassToken = Annotated[bool, typer.Option("--class-token-only", help="Of a layer of tokens read the first alone.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that SAELens or ViT-Prisma saved.")]
Measured = Annotated[Path | None, typer.Option("--images", help="Folder of images to measure it on; default none.")]
OneModel = Annotated[str, typer.Option("--model", "-m", help="Only this model; default all.")]


@app.command()
def train(  # the options of the command
    model: Model,
    layer: Layer,
    images: ImageDir = None,
    dictionary: Id = "",
    architecture: Architecture = "topk",
    features: Features = 0,
    k: Active = 32,
    sparsity: Sparsity = 1.0,
    steps: Steps = 5000,
    batch: Batch = 4096,
    learning_rate: LearningRate = 0.0,
    normalisation: Normalisation = "layer_norm",
    class_token_only: ClassToken = False,
    limit: Most = 0,
    seed: Seed = 0,
    as_json: output.Json = False,
) -> None:
    """Train a sparse autoencoder on a layer, and measure it on a tenth of the images that is held out.

    Ctrl-C stops it; the same command goes on from the activations it has and its last checkpoint, made every 500 steps.

    Examples:
        miclip sae train --model emoji-resnet --layer layer4 --features 1024

        miclip sae train --model photos --layer layer4 --images photos/ --architecture batchtopk --k 16
    """
    from miclip.catalogue import load_target
    from miclip.dictionaries import SaeRecipe, train_dictionary
    from miclip.dictionaries.recipe import Architecture as Kind
    from miclip.dictionaries.vectors import check_layer
    from miclip.models.sae import Normalisation as Norm

    _one_of(architecture, list(Kind), "--architecture")
    _one_of(normalisation, list(Norm), "--normalisation")
    target = load_target(model)
    check_layer(target, layer, class_token_only=class_token_only)
    recipe = SaeRecipe(
        architecture=Kind(architecture), features=features, k=k, sparsity=sparsity, steps=steps, batch=batch,
        learning_rate=learning_rate, normalisation=Norm(normalisation), class_token_only=class_token_only, seed=seed,
    ).resolved(target.layers[layer].units)  # fmt: skip
    dictionary = _new_id(target, dictionary or f"{architecture}-{recipe.features}")
    try:
        with progress_bar() as report:
            train_dictionary(
                target,
                layer,
                probe_images(images, limit, model),
                dictionary,
                recipe,
                models=_models(),
                store=settings().activations_dir,
                report=report,
            )
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    _made(model, dictionary, as_json)


@app.command(name="import")
def import_(
    folder: Folder, model: Model, layer: Layer, dictionary: Id = "", images: Measured = None, limit: Most = 0,
    as_json: output.Json = False,
) -> None:  # fmt: skip
    """Take a sparse autoencoder that SAELens or ViT-Prisma saved; it must fit the layer. No pickle is read.

    Examples:
        miclip sae import clip-b-32-layer-9/ --model photos --layer blocks.9 --images photos/
    """
    from miclip.catalogue import load_target
    from miclip.dictionaries import import_dictionary

    if not folder.is_dir():
        raise InvalidInput(f"DIR: there is no folder {str(folder)!r}.", field="DIR")
    target = load_target(model)
    dictionary = _new_id(target, dictionary or folder.resolve().name)
    probe = probe_images(images, limit, model) if images else None
    with progress_bar() as report:
        import_dictionary(
            target,
            layer,
            folder,
            dictionary,
            models=_models(),
            store=settings().activations_dir,
            probe=probe,
            report=report,
        )
    _made(model, dictionary, as_json)


@app.command("list")
def list_(model: OneModel = "", as_json: output.Json = False) -> None:
    """List the dictionaries of a model, or of all."""
    from miclip.catalogue import Catalogue

    catalogue = Catalogue()
    known = catalogue.model_ids()
    if model:
        _one_of(model, known, "--model")
    values = [_value(name, sae) for name in ([model] if model else known) for _, sae in catalogue.dictionaries(name)]
    output.emit(values, as_json, lambda: _show(values))


def _models() -> Path:
    return settings().data_dir / "models"


def _new_id(target: TargetModel, dictionary: str) -> str:
    """Check that an id is one and is not taken; raises InvalidInput or AlreadyExists."""
    check_id(dictionary, field="--id")
    for sae in target.dictionaries.values():
        if sae.dictionary == dictionary:
            text = (
                f"--id: {target.name} has a dictionary {dictionary!r} already, on {sae.base}. Choose another --id, or "
                f"remove the folder {target.name}.dictionaries/{dictionary} if it is one of yours."
            )
            raise AlreadyExists(text, field="--id", allowed="an id that no dictionary of the model has")
    return dictionary


def _made(model: str, dictionary: str, as_json: bool) -> None:
    """Show the new dictionary as it was kept, and what to do next."""
    from miclip.catalogue import Catalogue

    (value,) = [_value(model, one) for _, one in Catalogue().dictionaries(model) if one.dictionary == dictionary]
    output.emit(value, as_json, lambda: _show([value]))
    if not as_json:
        output.out.print("Next, so that its features have meanings:")
        output.out.print(f"  [bold]miclip align --model {output.text(model)}[/]", soft_wrap=True)
        output.out.print(
            "and restart a running `miclip serve`, which loads dictionaries when it starts.", soft_wrap=True
        )


def _value(model: str, sae: SparseAutoencoder) -> dict[str, Any]:
    """A dictionary as plain values; what was not measured is null."""
    names = ("explained_variance", "l0", "live_share", "agreement")
    return {
        "model": model, "layer": sae.base, "dictionary": sae.dictionary, "features_layer": sae.layer,
        "features": sae.features, "activation": str(sae.config.activation), "k": sae.config.k or None,
        "normalisation": str(sae.config.normalisation), "class_token_only": sae.config.class_token_only,
        **{name: sae.quality.get(name) for name in names}, "sha256": sae.sha256,
    }  # fmt: skip


def _show(values: Sequence[dict[str, Any]]) -> None:
    if not values:
        output.out.print("No dictionaries. Train one: miclip sae train --model MODEL --layer LAYER")
        return
    shown = output.table("model", "dictionary", ">size", "codes", ">keeps %", ">L0", ">live %", ">same %")
    for value in values:
        codes = " ".join(str(one) for one in (value["activation"], value["k"]) if one)
        shown.add_row(
            output.text(value["model"]), output.text(short_layer(value["features_layer"])), str(value["features"]),
            codes, _percent(value["explained_variance"]), output.number(value["l0"], 1),
            _percent(value["live_share"]), _percent(value["agreement"]),
        )  # fmt: skip
    output.show("Dictionaries", shown, _NOTE)


def _percent(share: float | None) -> str:
    return output.number(None if share is None else 100 * share, 1)


def _one_of(value: str, allowed: Sequence[str], option: str) -> None:
    if value not in allowed:
        names = ", ".join(allowed)
        raise InvalidInput(f"{option}: {value!r} is not one of {names}.", field=option, allowed=names)
