"""An OpenCLIP tower as a zero-shot classifier: imported from a file and asked, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from miclip.cli.app import app
from miclip.models import _torchvision  # noqa: F401  (before open_clip)
from miclip.settings import settings

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
WORDS = ["dog", "cat", "house"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint of random weights, words, and images of noise."""
    import open_clip

    for name, value in {"STATE_DIR": tmp_path / "state", "DATA_DIR": tmp_path / "data", "LABEL_SEEDS": 1}.items():
        monkeypatch.setenv(f"MICLIP_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    (tmp_path / "tiny-zero-shot.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    state = open_clip.create_model("tiny-zero-shot").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "clip.safetensors")
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    (tmp_path / "photos").mkdir()
    for number in range(32):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    yield tmp_path
    settings.cache_clear()


def answer(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_tower_in_a_file_is_aligned_and_asked_by_any_words(folder: Path) -> None:
    source = ("--model", "open_clip/tiny-zero-shot", "--weights", "clip.safetensors", "--labels", "words.txt")
    layer = "visual.transformer.resblocks.1"
    assert layer in [one["layer"] for one in answer("layers", source[1])["layers"]]
    made = answer("align", *source, "--images", "photos", "--steps", "5", "--layer", layer, "--layer", "visual.ln_post")
    assert made["model"] == "open_clip-tiny-zero-shot"
    model = ("--model", made["model"], "--local")
    (description,) = answer("describe", f"{layer}/3", *model)
    assert {concept["concept"] for concept in description["concepts"]} == set(WORDS)
    (localization,) = answer("localize", "dog", *model)
    assert localization["units"][0]["name"].startswith(f"models/{made['model']}/layers/visual.ln_post/units/")
    predicted = answer("predict", "photos/1.png", *model, "--steer", "dog=0")
    assert {prediction["label"] for prediction in predicted["baseline"]} == set(WORDS)
    assert len(predicted["edits"]) == 5
    assert [one["layer"] for one in answer("layers", made["model"])["layers"]] == [layer, "visual.ln_post", "logits"]
