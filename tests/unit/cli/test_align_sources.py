"""One command aligns a model on shards, in a CLIP of one's own; then it is described and localized there."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from miclip.cli import evaluate, local
from miclip.cli.app import app
from tests.tiny_clip import write_tiny_clip

LABELS = ("red thing", "green thing", "blue thing")
COUNT = 60


@pytest.fixture(autouse=True)
def alone(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MICLIP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MICLIP_LABEL_SEEDS", "2")
    for cached in (local._searcher, local._clip):
        cached.cache_clear()


@pytest.fixture
def weights(tmp_path: Path) -> list[str]:
    """Options that name a small model of random weights."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_resnet.r160_in1k", num_classes=len(LABELS))
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    return ["--weights", str(tmp_path / "weights.safetensors"), "--labels", str(tmp_path / "labels.txt")]


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Two labelled WebDataset shards; one image is broken."""
    for shard in range(2):
        with tarfile.open(tmp_path / f"s-{shard}.tar", "w") as tar:
            for number in range(shard, COUNT, 2):
                colour = [40, 40, 40]
                colour[number % 3] = 100 + 2 * number
                buffer = io.BytesIO()
                Image.new("RGB", (40, 32), tuple(colour)).save(buffer, "PNG")
                _add(tar, f"{number:03d}.png", buffer.getvalue())
                _add(tar, f"{number:03d}.cls", str(number % 3).encode())
            if shard:
                _add(tar, "broken.jpg", b"no image")
    return str(tmp_path / "s-{0..1}.tar")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def value_of(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr or result.exception
    return json.loads(result.stdout)


def align(weights: list[str], shards: str, name: str, *more: str) -> Any:
    return value_of("align", "--model", "timm/test_resnet", *weights, "--images", shards, "--id", name, "--steps", "5",
                    *more)  # fmt: skip


def test_shards_and_a_clip_of_ones_own_in_one_command(weights: list[str], shards: str, tmp_path: Path) -> None:
    made = align(weights, shards, "mine", "--clip", str(write_tiny_clip(tmp_path / "tiny", seed=1)))
    assert (made["model"], made["images"], made["skipped"]) == ("mine", COUNT, 1)
    assert made["skipped_images"] == ["s-1.tar/broken.jpg"]
    assert any(label in run("describe", "mine/logits/0", "--local").stdout for label in LABELS)
    words = run("describe", "mine/logits/0", "-c", "fur", "-c", "a red car", "--local", "--json")
    assert "fur" in words.stdout and "a red car" in words.stdout
    assert run("localize", "a red car", "--model", "mine", "--local").exit_code == 0
    found = local.LocalBackend().localize("a red car", model="mine")
    assert found.provenance.clip_id == made["clip_id"]
    unit = found.localizations[0].units[0].name
    drawn = tmp_path / "unit.png"
    value_of("picture", "unit", str(unit), "--images", shards, "--out", str(drawn))
    with Image.open(drawn) as picture:
        assert picture.size[0] > 100


def test_several_spaces_side_by_side_and_one_that_is_gone(weights: list[str], shards: str, tmp_path: Path) -> None:
    folders = [write_tiny_clip(tmp_path / f"clip{seed}", seed, dim=8 * seed) for seed in (1, 2)]
    made = {
        f"m{place}": align(weights, shards, f"m{place}", "--clip", str(folder)) for place, folder in enumerate(folders)
    }
    assert made["m0"]["clip_id"] != made["m1"]["clip_id"]
    for _ in range(2):
        for model, one in made.items():
            found = local.LocalBackend().localize("fur", model=model)
            assert found.provenance.clip_id == one["clip_id"]
    folders[1].rename(tmp_path / "moved")
    local._clip.cache_clear()
    refused = run("localize", "fur", "--model", "m1", "--local")
    assert refused.exit_code == 1
    assert "clip2 cannot be loaded" in refused.stderr and "miclip align --clip" in refused.stderr
    own = run("describe", "m1/logits/1", "--local")
    assert own.exit_code == 0, "labels of the model's own need no CLIP"
    assert run("localize", "fur", "--model", "m0", "--local").exit_code == 0


def test_a_model_without_images_of_its_own_wants_some(weights: list[str]) -> None:
    refused = run("align", "--model", "timm/test_resnet", *weights, "--id", "mine")
    assert refused.exit_code == 1
    assert "--images: mine comes with no images" in refused.stderr
    assert "WebDataset" in refused.stderr


def test_broken_images_are_told_to_a_person_too(weights: list[str], shards: str) -> None:
    result = run("align", "--model", "timm/test_resnet", *weights, "--images", shards, "--id", "mine", "--steps", "5")
    assert result.exit_code == 0, result.stderr
    assert "Skipped 1 of 61 images that cannot be decoded: s-1.tar/broken.jpg." in result.stderr
    assert "the bundled CLIP, which has seen emoji alone" in result.stderr


def test_a_labelled_tar_judges_a_model(weights: list[str], shards: str) -> None:
    align(weights, shards, "mine")
    trial = evaluate.own_trial(["mine"], Path(shards), None, ["layer4"], 16)
    (subject,), probe = trial.subjects, trial.probe(0)
    assert len(subject.images.names) + len(probe.names) == COUNT
    assert not set(subject.images.names) & set(probe.names)
    assert sorted(set(subject.images.labels.tolist())) == [0, 1, 2]
