"""State dicts in files: safetensors always, torch checkpoints only when importing, never a pickle with code."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miclip.errors import InvalidInput
from miclip.files import replacing

_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 3


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises InvalidInput."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        text = f"weights: {path.name!r} is not a readable safetensors file."
        raise InvalidInput(text, field="weights", allowed="a safetensors file") from error


def import_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a local file, for building and importing only.

    Args:
        path: ``*.safetensors``, or a torch checkpoint, which is read with ``weights_only=True``: tensors and plain
            containers load, anything that would run code is refused. Usual wrappers (``state_dict``, ``model``, …) and
            prefixes (``module.``, …) are removed.

    Raises:
        InvalidInput: the file is missing, broken, holds code, or holds no tensors by name.
    """
    if not path.is_file():
        raise InvalidInput(f"weights: there is no file {path.name!r}.", field="weights", allowed="an existing file")
    state = read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    allowed = "safetensors, or a torch checkpoint that holds only tensors"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickle protocols; what matters is whether it loads
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = f"weights: {path.name!r} holds pickled code, which is never run; save its state dict as safetensors."
        raise InvalidInput(text, field="weights", allowed=allowed) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"weights: {path.name!r} is not a torch checkpoint.", field="weights", allowed=allowed
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InvalidInput(f"weights: {path.name!r} holds no state dict.", field="weights", allowed=allowed)
    return dict(content)


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy ``state`` into ``module``; every name and shape must match.

    Args:
        module: Receives the tensors; types are converted.
        state: Tensors by name.
        what: Name of the architecture, for messages.

    Raises:
        InvalidInput: something is missing, unexpected, or of another shape; the text names the first few.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {list(state[key].shape)}, not {list(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    problems = [_few("missing", missing), _few("unexpected", unexpected), _few("of another shape", shapes)]
    if any(problems):
        text = f"weights: the file does not fit {what}: {'; '.join(filter(None, problems))}."
        raise InvalidInput(text, field="weights", allowed=f"the state dict of {what}")
    module.load_state_dict(state, strict=False)


def _few(problem: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{problem}: {', '.join(names[:_SHOWN])}{more}" if names else ""


def write_safetensors(path: Path, state: Mapping[str, Tensor], *, half: bool) -> str:
    """Write tensors to a temporary name, then rename.

    Args:
        path: Where to.
        state: Tensors by name.
        half: Store float32 as float16, except tensors that overflow it and vectors with values that vanish in it
            (the running variances of a batch norm).

    Returns:
        The file's SHA-256 (hex).
    """
    tensors = {name: (_half(tensor) if half else tensor).detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as temporary:
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, temporary)
    return file_sha256(path)


def _half(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    vanished = (half == 0) & (tensor != 0)
    return half if bool(half.isfinite().all()) and not bool(vanished.any() and tensor.ndim == 1) else tensor


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) over names, types, shapes and bytes of the tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
