"""The state of a training on disk, as safetensors, so that a stopped training goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from miclip.dictionaries.recipe import SaeRecipe
from miclip.files import replacing


class Checkpoint:
    """One training's file.

    Args:
        path: Where it lies; made when first saved. A file of another recipe is left alone and overwritten.
        recipe: The resolved recipe.
    """

    def __init__(self, path: Path, recipe: SaeRecipe) -> None:
        self._path = path
        self._recipe = hashlib.sha256(json.dumps(dataclasses.asdict(recipe)).encode()).hexdigest()

    def restore(self, optimizer: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> int:
        """Copy what was saved into the tensors and the optimiser; returns the steps done, 0 without a file."""
        if not self._path.is_file():
            return 0
        with safe_open(self._path, framework="pt") as file:
            metadata = file.metadata()
            if metadata.get("recipe") != self._recipe:
                return 0
            steps = int(metadata["step"])
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor.copy_(file.get_tensor(name))
            for index, tensor in enumerate(optimizer.param_groups[0]["params"]):
                moments = {key: file.get_tensor(f"{index}.{key}").to(tensor.device) for key in _MOMENTS}
                optimizer.state[tensor] = {"step": torch.tensor(float(steps)), **moments}
        return steps

    def save(self, step: int, optimizer: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> None:
        """Write the state after ``step`` steps."""
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        for index, tensor in enumerate(optimizer.param_groups[0]["params"]):
            content |= {f"{index}.{key}": optimizer.state[tensor][key].cpu().contiguous() for key in _MOMENTS}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as temporary:
            save_file(content, temporary, metadata={"step": str(step), "recipe": self._recipe})


_MOMENTS = ("exp_avg", "exp_avg_sq")
