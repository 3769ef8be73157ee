"""A control for features: a dictionary whose directions were drawn at random and never learned.

It has the size, the k and the offset of a trained one; its encoder is tied to its directions. What its features show is
what any sparse, overcomplete reading of the layer shows.
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from miclip.models.sae import SparseAutoencoder
from miclip.models.target import TargetModel

PREFIX = "random-"


def random_dictionary(sae: SparseAutoencoder, seed: int = 0) -> SparseAutoencoder:
    """Return a dictionary like ``sae`` with random directions, of length 1, and their transpose as its encoder."""
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(sae.W_dec.shape, generator=generator), dim=1).to(sae.W_dec.device)
    weights = {
        "W_enc": directions.T.contiguous(),
        "b_enc": torch.zeros_like(sae.b_enc),
        "W_dec": directions,
        "b_dec": sae.b_dec.clone(),
    }
    return SparseAutoencoder(f"{PREFIX}{sae.dictionary}", sae.base, sae.config, weights)


def with_random_dictionaries(model: TargetModel, layers: tuple[str, ...]) -> TargetModel:
    """Return the model with a random dictionary beside the first dictionary of each of some layers."""
    first = [next((sae for sae in model.dictionaries.values() if sae.base == layer), None) for layer in layers]
    controls = [random_dictionary(sae) for sae in first if sae is not None and sae.config.k]
    return model.with_dictionaries([*model.dictionaries.values(), *controls]) if controls else model
