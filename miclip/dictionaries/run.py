"""Train a dictionary on a layer of a target model, measure it, and keep it where the model finds it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from miclip.alignment.probe import ProbeSet
from miclip.dictionaries.quality import measure
from miclip.dictionaries.recipe import SaeRecipe
from miclip.dictionaries.train import train_sae
from miclip.dictionaries.vectors import activation_vectors
from miclip.models.dictionaries import DictionaryManifest, dictionary_folder, write_dictionary
from miclip.models.sae import SparseAutoencoder
from miclip.models.target import TargetModel
from miclip.models.weights import state_sha256
from miclip.progress import Report, silent
from miclip.row_store import key_of

_HELD_OUT = 10  # one image in so many is measured on, not trained on
MEASURED = 2048
"""Images that quality is measured on, at most."""


def train_dictionary(
    model: TargetModel,
    layer: str,
    probe: ProbeSet,
    dictionary: str,
    recipe: SaeRecipe,
    *,
    models: Path,
    store: Path,
    report: Report = silent,
) -> DictionaryManifest:
    """Train a sparse autoencoder on a layer and write it; a stopped run goes on where it stopped.

    Every tenth image is held out, and the quality measured on it.

    Args:
        model: The target model.
        layer: A layer of neurons.
        probe: Images to train on.
        dictionary: Id of the new dictionary.
        recipe: See :class:`SaeRecipe`.
        models: Folder of models, which receives ``{model}.dictionaries/{dictionary}/``.
        store: Directory of activation vectors and checkpoints.
        report: Told of progress.

    Returns:
        What was written, quality included.

    Raises:
        InvalidInput: the layer or the recipe cannot be used.
    """
    vectors = activation_vectors(store, model, layer, probe, class_token_only=recipe.class_token_only, report=report)
    held = torch.arange(len(vectors)) % _HELD_OUT == _HELD_OUT - 1
    recipe = recipe.resolved(vectors.shape[-1])
    training = vectors[~held].flatten(0, 1)
    inputs = [model.weights_sha256, probe.sha256, layer, dataclasses.asdict(recipe)]
    mark = store / f"sae-{key_of(inputs)}.safetensors"
    config, tensors = train_sae(training, recipe, checkpoint=mark, device=str(model.device), report=report)
    chosen = torch.nonzero(held).flatten()[:MEASURED]
    sae = SparseAutoencoder(dictionary, layer, config, _served(tensors))
    manifest = DictionaryManifest(
        model=model.name, layer=layer, weights_sha256=model.weights_sha256,
        quality=quality_on(model, sae, vectors, probe, chosen),
        training={"recipe": dataclasses.asdict(recipe), "probe_set": probe.name, "probe_sha256": probe.sha256,
                  "vectors": len(training), "tensors_sha256": state_sha256(tensors)},
    )  # fmt: skip
    written = write_dictionary(dictionary_folder(models, model.name) / dictionary, manifest, config, tensors)
    mark.unlink(missing_ok=True)
    return written


def quality_on(
    model: TargetModel, sae: SparseAutoencoder, vectors: torch.Tensor, probe: ProbeSet, rows: torch.Tensor
) -> dict[str, float]:
    """Measure a dictionary on some images of a probe set; see :class:`Quality`.

    Args:
        model: The target model.
        sae: A dictionary on one of its layers.
        vectors: Of ``activation_vectors``, for all of the probe set.
        probe: The images.
        rows: Which of them, int64 ``[n]``.
    """
    images = torch.stack([model.preprocess(probe.load(row, row + 1)[0]) for row in rows.tolist()])
    found = measure(sae, vectors[rows].flatten(0, 1), model.with_dictionaries([sae]), images)
    return dataclasses.asdict(found)


def _served(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as they will be read back: halves."""
    return {name: tensor.half().float() for name, tensor in tensors.items()}
