"""OpenCLIP models as they are used here: texts and images to normalised vectors of one space."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from miclip.errors import BadArtefact, InvalidInput
from miclip.models import _torchvision  # noqa: F401  (before open_clip)
from miclip.models.preprocessing import Preprocessing
from miclip.models.weights import file_sha256, import_weights, load_exactly, state_sha256

Tokenizer = Callable[[list[str]], Tensor]
"""Texts → int64 ``[n, T]``; texts that are too long are cut."""

_PACKAGE = "package:"
_TEXT_BATCH = 128
_IMAGE_BATCH = 64
_CONTEXT = 256
_FOLDER_CONFIG = "open_clip_config.json"
_FOLDER_WEIGHTS = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin")


class Clip:
    """A frozen OpenCLIP model; stateless, safe to call from several threads.

    Args:
        model: An ``open_clip`` model with ``encode_text`` and ``encode_image``.
        tokenizer: Of the model's text tower.
        preprocessing: From images to the image tower's inputs.
        config: What the model was built from, as plain values; part of ``clip_id``.
        device: Where to run.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        preprocessing: Preprocessing,
        config: dict[str, Any],
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.preprocess = preprocessing
        self._tokenize, self._config = tokenizer, config

    @property
    def dim(self) -> int:
        """Size ``D`` of the shared space."""
        return int(self._config["embed_dim"])

    @cached_property
    def clip_id(self) -> str:
        """SHA-256 (hex) over configuration, preprocessing and weights."""
        described = json.dumps([self._config, self.preprocess.to_json()], sort_keys=True)
        return hashlib.sha256((described + state_sha256(self.model.state_dict())).encode()).hexdigest()

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: Any number; what exceeds the tower's context is cut.

        Returns:
            float32 ``[n, D]``, rows of length 1, in the order given.
        """
        result = np.empty((len(texts), self.dim), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # alike lengths need little padding
        encode = cast("Callable[[Tensor], Tensor]", self.model.encode_text)
        with torch.inference_mode():
            for start in range(0, len(order), _TEXT_BATCH):
                rows = order[start : start + _TEXT_BATCH]
                tokens = self._tokenize([texts[row] for row in rows]).to(self.device)
                result[rows] = _unit(encode(tokens))
        return result

    def embed_images(self, images: Sequence[Tensor]) -> NDArray[np.float32]:
        """Embed decoded images.

        Args:
            images: uint8 ``[3, H, W]`` each, of any sizes.

        Returns:
            float32 ``[n, D]``, rows of length 1.
        """
        parts = [np.empty((0, self.dim), dtype=np.float32)]
        for start in range(0, len(images), _IMAGE_BATCH):
            batch = torch.stack([self.preprocess(image) for image in images[start : start + _IMAGE_BATCH]])
            parts.append(self.embed_inputs(batch))
        return np.concatenate(parts)

    def embed_inputs(self, inputs: Tensor) -> NDArray[np.float32]:
        """Embed one batch of preprocessed images, float32 ``[B,3,S,S]``, to float32 ``[B, D]``, rows of length 1."""
        encode = cast("Callable[[Tensor], Tensor]", self.model.encode_image)
        with torch.inference_mode():
            return _unit(encode(inputs.to(self.device)))


def _unit(features: Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = normalize(features.float(), dim=-1).cpu().numpy()
    return unit


def build_clip(
    config: dict[str, Any],
    preprocessing: Preprocessing,
    state: dict[str, Tensor],
    *,
    text_sha256: str = "",
    device: torch.device | str = "cpu",
) -> Clip:
    """Build an OpenCLIP model whose text tower is a Hugging Face model in a local package, and load its image tower.

    Args:
        config: OpenCLIP model configuration; ``text_cfg.hf_model_name`` is ``"package:NAME/FOLDER"``.
        preprocessing: From images to inputs.
        state: Tensors of everything but the text tower, which its package holds.
        text_sha256: What the package's ``model.safetensors`` must hash to.
        device: Where to run.

    Raises:
        BadArtefact: the text tower's package is missing or its weights are not the expected ones.
        InvalidInput: the tensors do not fit.
    """
    from open_clip import CustomTextCLIP

    folder = _package_folder(config["text_cfg"]["hf_model_name"])
    if file_sha256(folder / "model.safetensors") != text_sha256:
        raise BadArtefact("The text tower's weights are not the expected ones; reinstall the package that holds them.")
    text = config["text_cfg"] | {"hf_model_name": str(folder), "hf_model_pretrained": True}
    with _quiet_transformers():
        model = CustomTextCLIP(**(config | {"text_cfg": text}))
    rest = nn.Module()
    rest.visual, rest.logit_scale = model.visual, model.logit_scale
    load_exactly(rest, state, "the image tower")
    return Clip(model, _hf_tokenizer(folder), preprocessing, config, device)


def load_open_clip(name: str, weights: str, device: torch.device | str = "cpu") -> Clip:
    """Load any OpenCLIP model.

    Args:
        name: OpenCLIP model name, for example ``"ViT-B-32"``.
        weights: Path of a local file (safetensors, or a torch checkpoint of tensors), or ``"hub:TAG"`` for weights
            that OpenCLIP publishes, for example ``"hub:laion2b_s34b_b79k"``.
        device: Where to run.

    Raises:
        InvalidInput: unknown name or tag, or weights that do not fit.
    """
    import open_clip

    model = create_open_clip(name, weights)
    return _open_clip(model, name, {"name": name} | (open_clip.get_model_config(name) or {}), device)


def load_open_clip_folder(folder: Path, device: torch.device | str = "cpu") -> Clip:
    """Load an OpenCLIP model that is saved as OpenCLIP publishes its models.

    Args:
        folder: Holds ``open_clip_config.json``, one file of weights (safetensors, or a torch checkpoint of tensors),
            and the tokenizer's files where the text tower is a Hugging Face model.
        device: Where to run.

    Raises:
        InvalidInput: a file is missing or broken, or the weights do not fit.
    """
    import open_clip

    allowed = f"a folder with {_FOLDER_CONFIG} and {' or '.join(_FOLDER_WEIGHTS)}"
    weights = next((folder / name for name in _FOLDER_WEIGHTS if (folder / name).is_file()), None)
    try:
        config = json.loads((folder / _FOLDER_CONFIG).read_bytes())["model_cfg"]
        if weights is None:
            raise ValueError("no weights")
        with _no_warning():  # that the weights are random, for they come now
            model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_image=False,
                                           pretrained_text=False)  # fmt: skip
        _load_open_clip_state(model, weights, folder.name)
        return _open_clip(model, f"local-dir:{folder}", config, device)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        text = f"clip: {folder.name!r} is no OpenCLIP model that can be read. Give {allowed}."
        raise InvalidInput(text, field="clip", allowed=allowed) from error


def _open_clip(model: nn.Module, reference: str, config: dict[str, Any], device: torch.device | str) -> Clip:
    import open_clip

    preprocessing = open_clip_preprocessing(open_clip.get_model_preprocess_cfg(model))
    return Clip(model, cast("Tokenizer", open_clip.get_tokenizer(reference)), preprocessing, config, device)


def create_open_clip(name: str, weights: str) -> nn.Module:
    """Return an OpenCLIP model with its weights; arguments and errors as for ``load_open_clip``."""
    import open_clip

    if name not in open_clip.list_models():
        text = f"OpenCLIP has no model {name!r}; open_clip.list_models() lists {len(open_clip.list_models())}."
        raise InvalidInput(text, field="model", allowed="a name of open_clip.list_models()")
    if weights == "hub" or weights.startswith("hub:"):
        return _published(name, weights.removeprefix("hub").removeprefix(":"))
    with _no_warning():  # that the weights are random, for they come now
        model = cast("nn.Module", open_clip.create_model(name, pretrained=None, pretrained_text=False))
    _load_open_clip_state(model, Path(weights), f"open_clip/{name}")
    return model


def _load_open_clip_state(model: nn.Module, weights: Path, what: str) -> None:
    import open_clip

    state = import_weights(weights)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    load_exactly(model, state, what)


def _published(name: str, tag: str) -> nn.Module:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        allowed = ", ".join(f"hub:{known}" for known in tags) or "a local file"
        text = f"weights: {name} has no tag {tag!r}." if tag else f"weights: name which of {name}'s to take."
        raise InvalidInput(text, field="weights", allowed=allowed)
    try:
        return cast("nn.Module", open_clip.create_model(name, pretrained=tag))
    except (OSError, RuntimeError, ValueError) as error:
        text = f"weights: the published weights {tag!r} of open_clip/{name} cannot be fetched; give a local file."
        raise InvalidInput(text, field="weights", allowed="a local file") from error


@contextmanager
def _no_warning() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def open_clip_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """Translate OpenCLIP's ``preprocess_cfg``; raises InvalidInput for inputs that are not square."""
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise InvalidInput(f"model: its input is {width}×{height}; only square inputs are supported.", field="model")
    return Preprocessing(
        size=height,
        resize=config["resize_mode"],
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        fill=config["fill_color"],
    )


def _package_folder(reference: str) -> Path:
    package, _, folder = reference.removeprefix(_PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if reference.startswith(_PACKAGE) else None
    if spec is None or spec.origin is None:
        raise BadArtefact(f"The text tower's package {package!r} is not installed.")
    return Path(spec.origin).parent / folder


def _hf_tokenizer(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    def tokenize(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, return_tensors="pt", padding="longest", truncation=True, max_length=_CONTEXT)
        return cast("Tensor", batch.input_ids)

    return tokenize


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the report about the text model's unused pooler, and the progress bar, off the terminal."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
