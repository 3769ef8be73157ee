"""Modules that a function in the user's own file makes, and what keeps that code from being run for anyone else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from miclip.bundles import Bundle
from miclip.catalogue import Catalogue
from miclip.errors import BadArtefact, InvalidInput
from miclip.models.loaders import as_target, load_foreign
from miclip.models.sources import Given, default_id, is_source, needs_weights
from miclip.models.target import TargetModel

NET = """
from torch import nn
from blocks import Block


class Net(nn.Module):
    labels = ("dog", "cat", "apple")

    def __init__(self, channels=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.one, self.two = Block(16, 24), Block(24, 32)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 3)
        )

    def forward(self, images):
        return self.head(self.two(self.one(self.stem(images))))


class Unnamed(Net):
    labels = ()


class Boxed(Net):
    def forward(self, images):
        return {"scores": super().forward(images)}


class Maps(Net):
    def forward(self, images):
        return self.two(self.one(self.stem(images)))


def make():
    return Net()


def make_with_options():
    options = {"labels": ["a", "b", "c"], "layers": ["one.conv", "two"], "size": 32, "mean": [0.5] * 3, "std": [1] * 3}
    return Unnamed(), options


def make_unnamed():
    return Unnamed()


def make_grey():
    return Net(channels=1)


def make_boxed():
    return Boxed()


def make_maps():
    return Maps()


def make_fixed():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 16, 3))


def make_mistake():
    return Net(depth=3)


def make_typo():
    return Net(), {"sizes": 32}


def make_nonsense():
    return 3
"""
BLOCKS = """
from torch import nn


class Block(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue([], tmp_path / "data" / "models")


def load(source: str, weights: str = "", **given: Any) -> TargetModel:
    return as_target("mine", *load_foreign(source, weights, Given(**given)))


def images(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_a_plain_module_gets_labels_layers_and_preprocessing(net: Path) -> None:
    target = load(f"{net}:make", size=64)
    assert target.labels == ("dog", "cat", "apple")
    assert target.layer_sizes == {"one": 24, "two": 32, "head.3": 20, "logits": 3}
    assert (target.preprocess.size, target.preprocess.mean) == (64, (0.485, 0.456, 0.406))
    logits, _, attributions = target.attribute(images(), ["one", "two", "head.3"])
    assert logits.shape == (2, 3)
    assert all(attribution.abs().max() > 0 for attribution in attributions.values())


def test_what_the_factory_says_counts_and_what_the_user_says_counts_more(net: Path) -> None:
    target = load(f"{net}:make_with_options")
    assert target.labels == ("a", "b", "c")
    assert target.layer_sizes == {"one.conv": 24, "two": 32, "logits": 3}
    assert (target.preprocess.size, target.preprocess.mean, target.preprocess.std) == (32, (0.5,) * 3, (1.0,) * 3)
    other = load(f"{net}:make_with_options", labels=["x", "y", "z"], layers=["two.norm"], size=48, mean=(0.1,) * 3)
    assert (other.labels, list(other.layers)) == (("x", "y", "z"), ["two.norm", "logits"])
    assert (other.preprocess.size, other.preprocess.mean, other.preprocess.std) == (48, (0.1,) * 3, (1.0,) * 3)


def test_weights_of_a_file_take_the_place_of_the_factorys(net: Path, tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in load(f"{net}:make", size=64).module.state_dict().items()}
    state["head.5.bias"] = torch.tensor([1.0, 2.0, 3.0])
    save_file(state, tmp_path / "w.safetensors")
    target = load(f"{net}:make", str(tmp_path / "w.safetensors"), size=64)
    assert target.module.state_dict()["head.5.bias"].tolist() == [1.0, 2.0, 3.0]
    save_file({"other": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InvalidInput, match="missing: stem"):
        load(f"{net}:make", str(tmp_path / "w.safetensors"), size=64)


@pytest.mark.parametrize(
    ("factory", "given", "message"),
    [
        ("make_unnamed", {}, "3 outputs and does not name them"),
        ("make", {"labels": ["a", "b"]}, "3 outputs per image, but there are 2 labels"),
        ("make_grey", {}, r"images of 1 channel\(s\); miclip gives RGB"),
        ("make_boxed", {}, "a dict with scores, not logits"),
        ("make_maps", {}, "an output of 2 × 32"),
        ("make_mistake", {}, r"line \d+ of net\.py: TypeError"),
        ("make_typo", {}, "'sizes'; use labels"),
        ("make_nonsense", {}, "returns a int"),
        ("nothing", {}, "no function 'nothing'; it has .*make_grey"),
        ("make", {"layers": ["three"]}, "'three' is no layer"),
        ("make_fixed", {}, r"fails on two images of 3 × 64 × 64: .* Is --size its input size"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    net: Path, factory: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        load(f"{net}:{factory}", **({"size": 64} | given))


def test_it_is_imported_once_and_made_again_from_the_same_file(net: Path, catalogue: Catalogue) -> None:
    source = f"{net}:make"
    assert is_source(source)
    assert not needs_weights(source)
    assert default_id(source) == "net-make"
    imported = catalogue.import_model("mine", source, size=64)
    expected = imported.forward(images()).logits
    again = Catalogue([], catalogue._imported).load_target("mine", "cpu")  # weights are drawn anew and then replaced
    assert torch.equal(again.forward(images()).logits, expected)
    assert catalogue.spec("mine").source == source


@pytest.mark.parametrize("file", ["net.py", "blocks.py"])
def test_code_that_changed_since_the_import_is_not_run(net: Path, catalogue: Catalogue, file: str) -> None:
    catalogue.import_model("mine", f"{net}:make", size=64)
    changed = net.with_name(file)
    changed.write_text(changed.read_text() + f"\nopen({str(net.with_name('was-here'))!r}, 'w')\n")
    with pytest.raises(BadArtefact, match=rf"{file} has changed .*miclip rm"):
        Catalogue([], catalogue._imported).load_target("mine", "cpu")
    changed.unlink()
    with pytest.raises(BadArtefact, match="missing"):
        Catalogue([], catalogue._imported).load_target("mine", "cpu")
    assert not net.with_name("was-here").exists()


def test_neighbours_of_one_name_are_those_of_their_own_model(net: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "net.py"
    other.parent.mkdir()
    other.write_text(NET)
    other.with_name("blocks.py").write_text(BLOCKS.replace(".relu()", ".sigmoid()"))
    first, second = load(f"{net}:make", size=64), load(f"{other}:make", size=64)
    assert first.forward(images(), ["one"]).activations["one"].min() >= 0
    second.module.load_state_dict(first.module.state_dict())
    assert not torch.equal(first.forward(images()).logits, second.forward(images()).logits)


def test_a_bundle_names_no_code(net: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.import_model("mine", f"{net}:make", size=64)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "data" / "models").rename(tmp_path / "bundle" / "models")
    with pytest.raises(BadArtefact, match="did not import"):
        Catalogue([Bundle(tmp_path / "bundle")], tmp_path / "none").load_target("mine", "cpu")


def test_code_that_another_user_imported_is_not_run(
    net: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.import_model("mine", f"{net}:make", size=64)
    owner = (catalogue._imported / "mine.json").stat().st_uid
    if owner == 0:
        os.chown(catalogue._imported / "mine.json", 4711, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(BadArtefact, match="did not import"):
        Catalogue([], catalogue._imported).load_target("mine", "cpu")


def test_the_catalogue_file_names_no_code(net: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(f'{{"models": {{"mine": {{"source": "{net}:make", "weights": "hub"}}}}}}')
    with pytest.raises(InvalidInput, match="made by code"):
        Catalogue([], tmp_path / "none", tmp_path / "c.json").load_target("mine", "cpu")
