"""Models of your own, each aligned by one command from a shell; then every question is asked without naming images."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from miclip.cli.app import app
from miclip.images import decode_image
from miclip.models import _torchvision  # noqa: F401  (before transformers)
from miclip.models.preprocessing import Preprocessing
from tests.conftest import environment

pytestmark = pytest.mark.timeout(600)  # a model's first test aligns it

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (40, 60, 200), "grey": (128, 128, 128)}
EACH = 24
NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 5, 4), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 24, 3, 2), nn.ReLU(), nn.Conv2d(24, 32, 3, 2), nn.ReLU())
        self.head = nn.Linear(32, 4)

    def forward(self, images):
        return self.head(self.body(self.stem(images)).mean(dim=(2, 3)))


def make_model():
    return Net()
"""


@dataclass(frozen=True)
class Shell:
    """A shell in a folder, on the server's machine."""

    folder: Path
    variables: dict[str, str]

    def align(self, *arguments: str, images: str = "colours") -> subprocess.CompletedProcess[str]:
        """Align in a process of its own, as people do: nothing is registered or imported beforehand."""
        command = [sys.executable, "-m", "miclip.cli.app", "align", *arguments, "--images", images]
        variables = {**os.environ, **self.variables}
        return subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False)

    def run(self, *arguments: str) -> Result:
        """Run another command, in this process: a new one takes seconds to start."""
        with environment(self.variables), contextlib.chdir(self.folder):
            return CliRunner().invoke(app, list(arguments))

    def value(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)


@dataclass(frozen=True)
class Own:
    """A model of one's own: what the one command names it by, and what it is then called."""

    id: str
    source: tuple[str, ...]
    layer: str
    images: str = "colours"


VIT = Own("my-vit", ("--model", "./my-vit/"), "vit.layernorm")
SHARD = Own("shard-vit", (*VIT.source, "--id", "shard-vit"), VIT.layer, images="colours.tar")
NETWORK = Own(
    "net-make_model",
    ("--model", "net.py:make_model", "--weights", "net.safetensors", "--labels", "labels.txt", "--size", "64"),
    "body.3",
)


def draw(folder: Path) -> None:
    """Noisy plain pictures in the folder of their colour."""
    for label, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            noise = np.random.default_rng(100 * label + number).integers(-25, 26, (70, 90, 3))
            pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")


def pack(folder: Path, shard: Path) -> None:
    """The same pictures as a WebDataset: samples of a picture and the place of its label."""
    with tarfile.open(shard, "w") as tar:
        for file in sorted(folder.rglob("*.png")):
            label = list(COLOURS).index(file.parent.name)
            key = f"{file.parent.name}-{file.stem}"
            for name, data in ((f"{key}.png", file.read_bytes()), (f"{key}.cls", str(label).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def fit(head: nn.Linear, features: Tensor, labels: Tensor) -> None:
    """Let the last layer tell the colours apart."""
    design = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    wanted = 6.0 * torch.eye(len(COLOURS))[labels] - 3.0
    solved = torch.linalg.lstsq(design, wanted, driver="gelsd").solution.T
    with torch.no_grad():
        head.weight.copy_(solved[:, :-1])
        head.bias.copy_(solved[:, -1])


def save_vit(folder: Path, inputs: Tensor, labels: Tensor) -> None:
    """A tiny ViT in a folder, as people save theirs."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    names = dict(enumerate(COLOURS))
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=64,
        id2label=names, label2id={name: place for place, name in names.items()},
    )  # fmt: skip
    module = ViTForImageClassification(config).eval()
    with torch.inference_mode():
        features = module.vit(inputs).last_hidden_state[:, 0]
    fit(module.classifier, features.clone(), labels)
    module.save_pretrained(folder)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def save_net(folder: Path, inputs: Tensor, labels: Tensor) -> None:
    """A plain module in a file, its weights in another, and the names of its outputs in a third."""
    (folder / "net.py").write_text(NET)
    (folder / "labels.txt").write_text("\n".join(COLOURS))
    made: dict[str, Any] = {}
    exec(NET, made)
    module = made["make_model"]().eval()
    with torch.inference_mode():
        features = module.body(module.stem(inputs)).mean(dim=(2, 3))
    fit(module.head, features.clone(), labels)
    save_file(module.state_dict(), folder / "net.safetensors")


@pytest.fixture(scope="module")
def shell(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in a folder with both models and pictures."""
    folder = tmp_path_factory.mktemp("any-model")
    draw(folder / "colours")
    pack(folder / "colours", folder / "colours.tar")
    files = sorted((folder / "colours").rglob("*.png"))
    labels = torch.tensor([list(COLOURS).index(file.parent.name) for file in files])
    pictures = [decode_image(file.read_bytes(), field="image") for file in files]
    torch.manual_seed(0)
    squashed = Preprocessing(64, resize="squash", interpolation="bilinear")
    save_vit(folder / "my-vit", torch.stack([squashed(picture) for picture in pictures]), labels)
    cropped = Preprocessing(64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    save_net(folder, torch.stack([cropped(picture) for picture in pictures]), labels)
    return Shell(folder, {**server.environment, "MICLIP_ENDPOINT": "", "MICLIP_API_KEY": "", "HF_HUB_OFFLINE": "1"})


@pytest.fixture(scope="module", params=[VIT, NETWORK, SHARD], ids=lambda own: own.id)
def aligned(request: pytest.FixtureRequest, shell: Shell) -> Own:
    """A model that one command aligned, with nothing said of layers, layout or normalisation."""
    own: Own = request.param
    done = shell.align(*own.source, "--steps", "60", "--json", images=own.images)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["model"], made["active"], made["images"]) == (own.id, True, EACH * len(COLOURS))
    assert made["verdict"]["predicted"] == len(COLOURS)
    assert set(made["promises"]) and "logits" not in made["promises"]
    return own


def test_layers_were_there_to_see_before_the_alignment_and_are_aligned_after(aligned: Own, shell: Shell) -> None:
    source = aligned.source[1]
    size = ["--size", "64"] if source.endswith("make_model") else []
    before = shell.value("layers", source, *size)["layers"]
    after = shell.value("layers", aligned.id)["layers"]
    assert [layer["layer"] for layer in before] == [layer["layer"] for layer in after]
    assert after[-2]["layer"] == aligned.layer
    assert all(layer["aligned"] for layer in after)
    assert aligned.id in [model["model"] for model in shell.value("models")]


@pytest.mark.parametrize("local", [[], ["--local"]], ids=["server", "local"])
def test_questions_are_answered_by_the_server_and_without_it(aligned: Own, shell: Shell, local: list[str]) -> None:
    (description,) = shell.value("describe", f"{aligned.layer}/0", "--model", aligned.id, *local)
    assert description["name"] == f"models/{aligned.id}/layers/{aligned.layer}/units/0"
    assert {concept["concept"] for concept in description["concepts"]} <= set(COLOURS)
    (localization,) = shell.value("localize", "red", "--model", aligned.id, *local)
    assert localization["units"][0]["name"].startswith(f"models/{aligned.id}/layers/{aligned.layer}/")
    image = "colours/red/00.png"
    predicted = shell.value("predict", image, "--model", aligned.id, "--steer", "red=0.0", *local)
    assert predicted["model"] == aligned.id
    assert predicted["baseline"][0]["label"] == "red"
    assert {edit["layer"] for edit in predicted["edits"]} == {aligned.layer}


def test_a_preview_needs_no_images(aligned: Own, shell: Shell) -> None:
    preview = shell.value("steer", "preview", "red=0.0", "--model", aligned.id, "--units-per-concept", "20")
    assert preview["target_label"] == "red"
    assert preview["target_change"] < 0


def test_pictures_need_no_images(aligned: Own, shell: Shell) -> None:
    sheet = shell.value("picture", "unit", f"{aligned.layer}/0", "--model", aligned.id, "--out", "unit.png")
    assert sheet["images"]
    layer = next(one["layer"] for one in shell.value("layers", aligned.id)["layers"])
    shell.value("picture", "map", f"{layer}/0", "--model", aligned.id, "--out", "map.png")
    shell.value("picture", "units", aligned.layer, "--model", aligned.id, "--out", "units.png")
    for name in ("unit", "map", "units"):
        with Image.open(shell.folder / f"{name}.png") as drawn:
            assert min(drawn.size) > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_evaluation_needs_no_images(aligned: Own, shell: Shell, tmp_path: Path) -> None:
    arguments = ("--model", aligned.id, "--layer", aligned.layer, "--directory", str(tmp_path))
    result = shell.value("evaluate", *arguments)
    (target,) = result["targets"].values()
    assert target["held_out_top1"] == 100.0
    assert [place["layer"] for place in target["places"]] == [aligned.layer, "logits"]


def test_code_that_changed_is_not_run_by_commands_or_server(shell: Shell) -> None:
    (shell.folder / "other.py").write_text(NET)
    options = ["--labels", "labels.txt", "--size", "64", "--id", "changed"]
    first = shell.align("--model", "other.py:make_model", *options, "--steps", "5")
    assert first.returncode == 0, first.stderr
    (shell.folder / "other.py").write_text(NET + "\nopen('was-here', 'w')\n")
    for local in ([], ["--local"]):
        refused = shell.run("predict", "colours/red/00.png", "--model", "changed", *local)
        assert refused.exit_code == 1
        assert "other.py has changed" in refused.stderr
    assert not (shell.folder / "was-here").exists()
    again = shell.align("--model", "other.py:make_model", *options)
    assert again.returncode == 1
    assert "miclip rm" in again.stderr


def test_a_server_takes_no_source_from_a_request(shell: Shell) -> None:
    (shell.folder / "evil.py").write_text("open('was-here', 'w')\n")
    source = str(shell.folder / "evil.py:make")
    for command in (["predict", "colours/red/00.png"], ["localize", "red"], ["align", "--remote"]):
        refused = shell.run(*command, "--model", source)
        assert refused.exit_code == 1, command
    assert not (shell.folder / "was-here").exists()
