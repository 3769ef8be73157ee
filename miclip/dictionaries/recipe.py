"""How a sparse autoencoder is trained: after Gao et al. 2024, "Scaling and evaluating sparse autoencoders"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from miclip.errors import InvalidInput
from miclip.models.sae import Normalisation

_TOKENS_DEAD = 10_000_000


class Architecture(StrEnum):
    """What makes the codes sparse while training."""

    TOPK = "topk"
    """The ``k`` largest codes of each vector (Gao et al. 2024): a k-SAE."""
    BATCHTOPK = "batchtopk"
    """The ``k·B`` largest codes of a batch (Bussmann et al. 2024); afterwards one threshold for all features."""
    JUMPRELU = "jumprelu"
    """A learned threshold a feature, with a penalty on the number of codes (Rajamanoharan et al. 2024)."""
    RELU = "relu"
    """ReLU with a penalty on the codes' sum (Bricken et al. 2023)."""


@dataclass(frozen=True)
class SaeRecipe:
    """Settings of a training.

    Attributes:
        architecture: What makes the codes sparse.
        features: Number of features ``F``; 0 means four times the layer's units.
        k: Codes of a vector, for ``TOPK`` and on average for ``BATCHTOPK``.
        sparsity: Weight of the penalty of ``JUMPRELU`` (on the number of codes over F) and ``RELU`` (on their sum).
        steps: Optimiser steps.
        batch: Vectors a step.
        learning_rate: Adam's, falling to 0 over the last fifth; 0 means ``2e-4 / sqrt(F / 2^14)``, Gao et al.'s rule.
        aux_k: Dead features that learn from the error of the live ones in each step; at most.
        aux_weight: Weight of that loss.
        dead_after: Vectors without a positive code after which a feature counts as dead; 0 means ten millions, or a
            tenth of all that are seen if that is less.
        normalisation: Of the input.
        class_token_only: Of a layer of tokens only the first.
        seed: Of initialisation and order.
    """

    architecture: Architecture = Architecture.TOPK
    features: int = 0
    k: int = 32
    sparsity: float = 1.0
    steps: int = 5000
    batch: int = 4096
    learning_rate: float = 0.0
    aux_k: int = 256
    aux_weight: float = 1 / 32
    dead_after: int = 0
    normalisation: Normalisation = Normalisation.LAYER_NORM
    class_token_only: bool = False
    seed: int = 0

    def resolved(self, width: int) -> SaeRecipe:
        """Fill in what follows from the width ``d`` of the layer; raises InvalidInput for values that cannot work."""
        features = self.features or 4 * width
        chosen = replace(
            self,
            architecture=Architecture(self.architecture),
            normalisation=Normalisation(self.normalisation),
            features=features,
            learning_rate=self.learning_rate or 2e-4 / (features / 2**14) ** 0.5,
            dead_after=self.dead_after or min(_TOKENS_DEAD, max(1, self.steps * self.batch // 10)),
            aux_k=min(self.aux_k, features),
        )
        for name, value, low, high in (
            ("features", features, 2, 2**20), ("k", self.k, 1, features), ("steps", self.steps, 1, 10**7),
            ("batch", self.batch, 2, 2**20), ("sparsity", self.sparsity, 0, 1e6),
            ("learning_rate", chosen.learning_rate, 1e-9, 1.0),
        ):  # fmt: skip
            if not low <= value <= high:
                allowed = f"{low:g} to {high:g}"
                raise InvalidInput(f"{name} is {value:g}; {allowed} is allowed.", field=name, allowed=allowed)
        return chosen
