"""Sparse autoencoders: a dictionary of features on a layer, whose codes are units like neurons are.

``z = act(W_enc (x - b_dec) + b_enc)``, ``x̂ = W_dec z + b_dec``, at every position of the layer; ``x`` may be normalised
on the way in, and the reconstruction un-normalised on the way out. Conventions are those of SAELens, so that its files
mean here what they mean there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import torch
from torch import Tensor, nn

from miclip.errors import InvalidInput
from miclip.models.weights import state_sha256
from miclip.names import dictionary_layer
from miclip.steering.apply import Codes

_EPSILON = 1e-5


class Activation(StrEnum):
    """What makes codes sparse."""

    TOPK = "topk"
    """The ``k`` largest positive pre-activations of a position (Gao et al. 2024)."""
    JUMPRELU = "jumprelu"
    """Pre-activations above the feature's own threshold; so is BatchTopK once it is trained."""
    RELU = "relu"
    """Positive pre-activations."""


class Normalisation(StrEnum):
    """What is done to an activation vector before it is encoded, and undone after it is decoded."""

    NONE = "none"
    LAYER_NORM = "layer_norm"
    """Mean 0 and standard deviation 1 over the layer's units."""
    CONSTANT_NORM = "constant_norm_rescale"
    """Euclidean length ``√d``."""


@dataclass(frozen=True)
class SaeConfig:
    """What a dictionary computes, beside its weights.

    Attributes:
        activation: What makes codes sparse.
        k: Codes of a position that may be positive, for ``TOPK``; 0 otherwise.
        normalisation: Of the input.
        bias_to_input: ``b_dec`` is subtracted from the input.
        class_token_only: Of a layer of tokens only the first is encoded, edited and counted.
    """

    activation: Activation
    k: int = 0
    normalisation: Normalisation = Normalisation.NONE
    bias_to_input: bool = True
    class_token_only: bool = False


class SparseAutoencoder(nn.Module):
    """A dictionary of ``F`` features on a layer of ``d`` units. Frozen.

    Args:
        dictionary: Its id among the layer's dictionaries.
        base: Name of the layer that it reads and writes.
        config: What it computes.
        weights: float ``W_enc [d, F]``, ``b_enc [F]``, ``W_dec [F, d]``, ``b_dec [d]``, and for ``JUMPRELU``
            ``threshold [F]``, at least 0.
        quality: What was measured of it; see ``miclip.dictionaries.Quality``.

    Raises:
        InvalidInput: a tensor is missing, unknown, not finite, or of a shape that does not fit; or ``k`` is not 1 to F.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor

    def __init__(
        self,
        dictionary: str,
        base: str,
        config: SaeConfig,
        weights: dict[str, Tensor],
        quality: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.dictionary, self.base, self.config = dictionary, base, config
        self.quality = dict(quality or {})
        _check(config, weights)
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            self.register_buffer(name, weights[name].detach().float().contiguous())
        # ReLU is a threshold of 0; one code path then serves both
        threshold = weights.get("threshold", torch.zeros_like(weights["b_enc"]))
        self.register_buffer("threshold", threshold.detach().float().contiguous())

    @property
    def layer(self) -> str:
        """Name of the layer of features, ``{base}/dictionaries/{id}``."""
        return dictionary_layer(self.base, self.dictionary)

    @property
    def features(self) -> int:
        """Number of features ``F``."""
        return self.W_dec.shape[0]

    @property
    def width(self) -> int:
        """Units ``d`` of the layer that it reads."""
        return self.W_dec.shape[1]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) over configuration and weights."""
        return hashlib.sha256(f"{self.config!r}\0{state_sha256(self.state_dict())}".encode()).hexdigest()

    def encode(self, x: Tensor) -> Codes:
        """Encode activations.

        Args:
            x: ``[..., d]``; units last.

        Returns:
            Codes float32 ``[..., F]``, at least 0, with what undoes the normalisation.
        """
        vectors, scale, shift = normalise(x.float(), self.config.normalisation)
        inputs = vectors - self.b_dec if self.config.bias_to_input else vectors
        before = inputs @ self.W_enc + self.b_enc
        return Codes(self._sparse(before), scale, shift)

    def decode(self, codes: Codes) -> Tensor:
        """Return the reconstruction ``[..., d]`` of codes, float32, un-normalised."""
        return (codes.values @ self.W_dec + self.b_dec) * codes.scale + codes.shift

    def directions(self, change: Tensor, scale: Tensor) -> Tensor:
        """Return what a change of the codes ``[..., F]`` adds to the activations, float32 ``[..., d]``."""
        return (change @ self.W_dec) * scale

    def _sparse(self, before: Tensor) -> Tensor:
        if self.config.activation is Activation.TOPK:
            best = before.topk(self.config.k, dim=-1)
            return torch.zeros_like(before).scatter_(-1, best.indices, best.values.relu())
        return torch.where(before > self.threshold, before, 0.0)


def normalise(x: Tensor, how: Normalisation) -> tuple[Tensor, Tensor, Tensor]:
    """Return the vectors ``[..., d]`` normalised, and scale and shift that undo it, each ``[..., 1]``."""
    match how:
        case Normalisation.LAYER_NORM:
            mean = x.mean(dim=-1, keepdim=True)
            spread = x.std(dim=-1, keepdim=True)
            return (x - mean) / (spread + _EPSILON), spread, mean
        case Normalisation.CONSTANT_NORM:
            scale = x.norm(dim=-1, keepdim=True).clamp_min(_EPSILON) / x.shape[-1] ** 0.5
            return x / scale, scale, torch.zeros_like(scale)
        case _:
            ones = torch.ones_like(x[..., :1])
            return x, ones, torch.zeros_like(ones)


def _check(config: SaeConfig, weights: dict[str, Tensor]) -> None:
    wanted = {"W_enc", "b_enc", "W_dec", "b_dec"} | (
        {"threshold"} if config.activation is Activation.JUMPRELU else set()
    )
    if odd := ", ".join(sorted(wanted ^ weights.keys())):
        names = ", ".join(sorted(wanted))
        text = f"A {config.activation} dictionary has exactly the tensors {names}; these differ: {odd}."
        raise InvalidInput(text, field="weights", allowed=names)
    features, width = weights["W_dec"].shape if weights["W_dec"].ndim == 2 else (0, 0)
    shapes = {"W_enc": (width, features), "b_enc": (features,), "W_dec": (features, width), "b_dec": (width,),
              "threshold": (features,)}  # fmt: skip
    for name, tensor in weights.items():
        if tuple(tensor.shape) != shapes[name] or not features:
            text = f"{name} has shape {tuple(tensor.shape)}; W_dec [F, d] asks for {shapes[name]}."
            raise InvalidInput(text, field="weights")
        if not tensor.isfinite().all():
            raise InvalidInput(f"{name} has values that are not finite.", field="weights")
    if config.activation is Activation.TOPK and not 1 <= config.k <= features:
        raise InvalidInput(f"k is {config.k}; 1 to {features} is allowed.", field="k", allowed=f"1 to {features}")
    if "threshold" in weights and bool((weights["threshold"] < 0).any()):
        raise InvalidInput("threshold has values below 0.", field="weights", allowed="0 or more")
