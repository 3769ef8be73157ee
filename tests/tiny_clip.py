"""Small OpenCLIP models of random weights, saved as OpenCLIP publishes its models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

STATS = [0.5, 0.5, 0.5]


def write_tiny_clip(folder: Path, seed: int, dim: int = 16) -> Path:
    """Write a CLIP whose space has ``dim`` dimensions; another seed is another space."""
    from open_clip import CLIP

    from miclip.models import clip as _first  # noqa: F401  (lets open_clip import)

    config: dict[str, Any] = {
        "embed_dim": dim,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(**config)
    folder.mkdir(parents=True)
    preprocessing = {"mean": STATS, "std": STATS, "interpolation": "bicubic", "resize_mode": "shortest"}
    described = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(described), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
              folder / "open_clip_model.safetensors")  # fmt: skip
    return folder
