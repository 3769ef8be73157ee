"""An atlas stands alone: after an alignment, previews, pictures and an evaluation need no image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from miclip.catalogue import Catalogue
from miclip.cli.app import app
from miclip.images import decode_image
from tests.conftest import environment

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (40, 60, 200), "grey": (128, 128, 128)}
EACH = 24
MODEL = "stands-alone"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def value_of(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def draw(folder: Path) -> None:
    """Noisy plain pictures in the folder of their colour."""
    for label, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            noise = np.random.default_rng(100 * label + number).integers(-25, 26, (200, 240, 3))
            pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")


def fit(folder: Path, weights: Path) -> None:
    """Write weights of a tiny transformer of timm's whose last layer tells the colours apart."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=len(COLOURS)).eval()
    save_file(network.state_dict(), weights)
    untrained = Catalogue().import_model("untrained", "timm/test_vit", str(weights), labels=tuple(COLOURS))
    files = sorted(folder.rglob("*.png"))
    shown = torch.tensor([list(COLOURS).index(file.parent.name) for file in files])
    images = [untrained.preprocess(decode_image(file.read_bytes(), field="image")) for file in files]
    with torch.inference_mode():
        features = network.forward_head(network.forward_features(torch.stack(images)), pre_logits=True)
        wanted = 6.0 * torch.eye(len(COLOURS))[shown] - 3.0
        design = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        solved = torch.linalg.lstsq(design, wanted, driver="gelsd").solution.T
        network.head.weight.copy_(solved[:, :-1])
        network.head.bias.copy_(solved[:, -1])
    save_file(network.state_dict(), weights)


@pytest.fixture(scope="module")
def aligned(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model that was aligned on a folder, which is elsewhere now: its new place."""
    folder = tmp_path_factory.mktemp("stand-alone")
    with environment({**server.environment, "MICLIP_ENDPOINT": "", "MICLIP_API_KEY": ""}):
        draw(folder / "colours")
        fit(folder / "colours", folder / "vit.safetensors")
        (folder / "labels.txt").write_text("\n".join(COLOURS))
        source = ["--model", "timm/test_vit", "--weights", str(folder / "vit.safetensors"), "--id", MODEL]
        source += ["--labels", str(folder / "labels.txt")]
        made = value_of("align", *source, "--images", str(folder / "colours"), "--steps", "60")
        assert (made["images"], made["held_out"]) == (96, 12)
        (folder / "elsewhere").mkdir()
        shutil.move(folder / "colours", folder / "elsewhere" / "colours")
        yield folder / "elsewhere" / "colours"


def test_a_preview_measures_on_the_images_set_aside(aligned: Path) -> None:
    preview = value_of("steer", "preview", "red=0.0", "--model", MODEL, "--units-per-concept", "20")
    assert preview["measured_on"] == "images of colours that the alignment set aside, with labels of their own"
    assert (preview["images"], preview["target_images"], preview["target_label"]) == (12, 3, "red")
    assert preview["target_change"] < 0
    text = run("steer", "preview", "red=0.0", "--model", MODEL).stdout
    assert "set aside" in " ".join(text.split())


def test_a_norm_limit_is_measured_without_images(aligned: Path) -> None:
    refused = run("steer", "create", "alone", "red=9.0", "--model", MODEL, "--norm-limit", "0.0001")
    assert refused.exit_code == 1 and "norm_limit" in refused.stderr and "typical norm" in refused.stderr


def test_pictures_are_drawn_from_the_atlas(aligned: Path, tmp_path: Path) -> None:
    layer = value_of("picture", "units", "--model", MODEL, "--out", str(tmp_path / "units.png"))["layer"]
    unit = f"{layer}/3"
    sheet = value_of("picture", "unit", unit, "--model", MODEL, "--out", str(tmp_path / "unit.png"))
    assert len(sheet["images"]) == 16
    with Image.open(tmp_path / "unit.png") as drawn:
        picture = np.asarray(drawn.convert("RGB"), int)
    shown = {image["image"].partition("/")[0] for image in sheet["images"]}
    for colour in shown:
        near = np.abs(picture - COLOURS[colour]).max(axis=-1) < 20
        assert near.sum() > 2000, "the colours of the images that are named"
    found = value_of("picture", "map", "blocks.1/3", "--model", MODEL, "--out", str(tmp_path / "map.png"))
    assert found["image"] == "the strongest held-out image" and found["predicted"] in COLOURS
    assert all((tmp_path / f"{name}.png").is_file() for name in ("units", "unit", "map"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_evaluation_judges_the_stored_atlas_on_the_images_set_aside(aligned: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "--model", MODEL, "--layer", "norm", "--directory", str(tmp_path))
    answer = run(*arguments, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert "not at hand" in answer.stderr and "one seed" in answer.stderr
    (target,) = json.loads(answer.stdout)["targets"].values()
    assert target["judged_on"] == "12 images of colours, set aside before the alignment, with labels of their own"
    assert target["aligned_on"] == "84 images of colours, in the stored atlas"
    assert target["held_out_top1"] == 100.0
    assert [place["layer"] for place in target["places"]] == ["norm", "logits"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_evaluation_aligns_anew_where_the_images_are_at_hand(aligned: Path, tmp_path: Path) -> None:
    answer = run("evaluate", "--model", MODEL, "--layer", "norm", "--seeds", "1", "--directory", str(tmp_path),
                 "--probe-images", str(aligned), "--json")  # fmt: skip
    assert answer.exit_code == 0, answer.stderr
    assert "not at hand" not in answer.stderr
    (target,) = json.loads(answer.stdout)["targets"].values()
    assert target["aligned_on"] == "84 images of colours" and target["judged_on"].startswith("12 images of colours")


def test_an_evaluation_refuses_other_probe_images(aligned: Path, tmp_path: Path) -> None:
    draw(tmp_path / "others")
    (next((tmp_path / "others" / "red").iterdir())).unlink()
    answer = run("evaluate", "--model", MODEL, "--probe-images", str(tmp_path / "others"))
    assert answer.exit_code == 1 and "does not hold the images" in answer.stderr
