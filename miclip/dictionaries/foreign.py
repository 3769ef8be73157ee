"""Take a dictionary that another program trained, and keep it where the model finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from miclip.alignment.probe import ProbeSet
from miclip.dictionaries.run import MEASURED, quality_on
from miclip.dictionaries.vectors import activation_vectors, check_layer
from miclip.models.dictionaries import DictionaryManifest, dictionary_folder, write_dictionary
from miclip.models.sae import SparseAutoencoder
from miclip.models.sae_files import read_sae
from miclip.models.target import TargetModel
from miclip.progress import Report, silent


def import_dictionary(
    model: TargetModel,
    layer: str,
    folder: Path,
    dictionary: str,
    *,
    models: Path,
    store: Path,
    probe: ProbeSet | None = None,
    report: Report = silent,
) -> DictionaryManifest:
    """Read a dictionary of SAELens or ViT-Prisma, check that it fits a layer, measure it and keep it.

    Args:
        model: The target model.
        layer: The layer of neurons that it was trained on.
        folder: See ``miclip.models.sae_files.read_sae``.
        dictionary: Its id from now on.
        models: Folder of models, which receives ``{model}.dictionaries/{dictionary}/``.
        store: Directory of activation vectors.
        probe: Images to measure it on, evenly spread and at most 2048; nothing is measured without.
        report: Told of progress.

    Returns:
        What was written. Whether it was trained on the images, miclip cannot know.

    Raises:
        InvalidInput: the folder cannot be read, or the dictionary does not fit the layer.
    """
    config, tensors = read_sae(folder)
    check_layer(model, layer, class_token_only=config.class_token_only)
    sae = SparseAutoencoder(dictionary, layer, config, tensors)
    model.with_dictionaries([sae])  # refused unless it reads as many units as the layer has
    quality: dict[str, float] = {}
    described: dict[str, Any] = {"source": folder.name}
    if probe:
        vectors = activation_vectors(
            store, model, layer, probe, class_token_only=config.class_token_only, report=report
        )
        rows = torch.linspace(0, len(vectors) - 1, min(len(vectors), MEASURED)).long()
        quality = quality_on(model, sae, vectors, probe, rows)
        described |= {"probe_set": probe.name, "probe_sha256": probe.sha256}
    manifest = DictionaryManifest(
        model=model.name, layer=layer, weights_sha256=model.weights_sha256, quality=quality, training=described
    )
    return write_dictionary(dictionary_folder(models, model.name) / dictionary, manifest, config, tensors)
