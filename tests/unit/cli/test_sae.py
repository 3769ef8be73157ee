"""``miclip sae``: what it trains, takes over and lists, what it says, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from miclip.catalogue import load_target
from miclip.cli.app import app
from miclip.demo.assets import MODELS
from miclip.demo.probe import demo_probe
from miclip.dictionaries import train as training
from miclip.dictionaries.checkpoint import Checkpoint
from miclip.models.dictionaries import read_dictionaries
from miclip.settings import settings

SMALL = ("--model", "emoji-resnet", "--layer", "layer3", "--features", "64", "--k", "4", "--batch", "64")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing was trained."""
    monkeypatch.setenv("MICLIP_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    yield tmp_path / "data"
    settings.cache_clear()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty images of the demo's."""
    folder, probe = tmp_path_factory.mktemp("photos"), demo_probe()
    for row in range(40):
        Image.fromarray(probe.load(row, row + 1)[0].permute(1, 2, 0).numpy()).save(folder / f"{row:02d}.png")
    return str(folder)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder as SAELens saves it, of a dictionary on 128 units, which ``layer3`` has."""
    folder, rng = tmp_path / "from-elsewhere", torch.Generator().manual_seed(0)
    folder.mkdir()
    decoder = torch.nn.functional.normalize(torch.randn(96, 128, generator=rng), dim=1)
    tensors = {"W_enc": decoder.T.contiguous(), "W_dec": decoder, "b_enc": torch.zeros(96), "b_dec": torch.zeros(128)}
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {"architecture": "topk", "k": 8, "d_in": 128, "d_sae": 96, "dtype": "float32", "device": "cpu",
              "apply_b_dec_to_input": True, "normalize_activations": "layer_norm", "reshape_activations": "none",
              "metadata": {"sae_lens_version": "6.0.0", "hook_name": "layer3"}}  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sae", *arguments])


def answer(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_trained_dictionary_is_kept_measured_listed_and_loaded_with_its_model(nowhere: Path, photos: str) -> None:
    value = answer("train", *SMALL, "--steps", "60", "--learning-rate", "0.01", "--images", photos)
    assert (value["layer"], value["dictionary"], value["features"], value["k"]) == ("layer3", "topk-64", 64, 4)
    assert value["l0"] == pytest.approx(4, abs=0.01)
    assert 0.1 < value["explained_variance"] <= 1
    assert 0 < value["live_share"] <= 1 and 0 <= value["agreement"] <= 1
    ((manifest, sae),) = read_dictionaries(nowhere / "models", "emoji-resnet")
    assert (manifest.quality["l0"], sae.sha256) == (value["l0"], value["sha256"])
    assert manifest.training["probe_set"] == Path(photos).name
    assert load_target("emoji-resnet", "cpu").layers["layer3/dictionaries/topk-64"].units == 64
    assert value in answer("list", "--model", "emoji-resnet")


def test_without_a_name_the_next_commands_are_said_and_the_table_tells_what_it_keeps(photos: str) -> None:
    result = run("train", *SMALL, "--steps", "5", "--images", photos, "--architecture", "relu")
    assert result.exit_code == 0, result.stderr
    assert "layer3@relu-64" in result.stdout and "keeps %" in result.stdout
    assert "miclip align --model emoji-resnet" in result.stdout and "miclip serve" in result.stdout


def test_an_interrupted_training_goes_on_where_it_stopped(
    nowhere: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("train", *SMALL, "--steps", "120", "--images", photos)
    whole = answer(*arguments, "--id", "whole")
    monkeypatch.setattr(training, "_SAVE_EVERY", 50)
    starts: list[int] = []
    restore, step = Checkpoint.restore, training._Trainer.step

    def restored(self: Checkpoint, *where: Any) -> int:
        starts.append(restore(self, *where))
        return starts[-1]

    def interrupted(self: Any, number: int) -> float:
        if len(starts) == 1 and number == 110:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Checkpoint, "restore", restored)
    monkeypatch.setattr(training._Trainer, "step", interrupted)
    stopped = run(*arguments, "--id", "resumed")
    assert (stopped.exit_code, stopped.stdout) == (130, "") and "same command goes on" in stopped.stderr
    assert not (nowhere / "models" / "emoji-resnet.dictionaries" / "resumed").exists()
    resumed = answer(*arguments, "--id", "resumed")
    assert starts == [0, 100]
    assert {**resumed, "dictionary": "", "features_layer": ""} == {**whole, "dictionary": "", "features_layer": ""}


def test_a_dictionary_of_saelens_is_taken_over_as_it_computes(foreign: Path, photos: str) -> None:
    value = answer("import", str(foreign), "--model", "emoji-resnet", "--layer", "layer3", "--images", photos)
    assert (value["dictionary"], value["activation"], value["k"]) == ("from-elsewhere", "topk", 8)
    assert value["l0"] <= 8 and value["explained_variance"] < 1
    unmeasured = answer("import", str(foreign), "--model", "emoji-resnet", "--layer", "layer3", "--id", "again")
    assert (unmeasured["l0"], unmeasured["explained_variance"]) == (None, None)
    assert unmeasured["sha256"] == value["sha256"]
    assert "again" in run("list").stdout


def test_the_list_shows_the_dictionaries_that_ship() -> None:
    listed = answer("list")
    shipped = {(f"{path.parent.name.removesuffix('.dictionaries')}", path.name)
               for path in MODELS.glob("*.dictionaries/*")}  # fmt: skip
    assert {(one["model"], one["dictionary"]) for one in listed} == shipped
    assert all(one["explained_variance"] > 0.5 for one in listed)


def test_an_id_is_used_once_and_the_way_out_is_said(foreign: Path) -> None:
    taken = load_target("emoji-resnet", "cpu").dictionaries
    name = next(iter(taken.values())).dictionary
    for arguments in (("train", *SMALL), ("import", str(foreign), "--model", "emoji-resnet", "--layer", "layer3")):
        result = run(*arguments, "--id", name)
        assert result.exit_code == 1 and result.stdout == ""
        assert name in result.stderr and "another --id" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", *SMALL, "--architecture", "gated"), "batchtopk"),
        (("train", *SMALL, "--normalisation", "max"), "layer_norm"),
        (("train", *SMALL, "--k", "65"), "1 to 64"),
        (("train", *SMALL, "--id", "../x"), "--id"),
        (("train", *SMALL, "--images", "nowhere"), "there is no 'nowhere'"),
        (("train", *SMALL, "--class-token-only"), "no tokens"),
        (("train", "--model", "emoji-resnet", "--layer", "logits"), "layer4"),
        (("train", "--model", "emoji-resnet", "--layer", "layer9"), "layer4"),
        (("train", "--model", "unheard-of", "--layer", "layer4"), "emoji-vit"),
        (("import", "nowhere", "--model", "emoji-resnet", "--layer", "layer3"), "nowhere"),
        (("list", "--model", "unheard-of"), "emoji-vit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_bad_input_is_refused_with_what_is_allowed(arguments: tuple[str, ...], said: str, nowhere: Path) -> None:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr and "Traceback" not in result.stderr
    assert not nowhere.exists()


def test_a_folder_that_does_not_fit_is_refused_and_nothing_is_kept(foreign: Path, nowhere: Path) -> None:
    wrong = run("import", str(foreign), "--model", "emoji-resnet", "--layer", "layer4")
    assert wrong.exit_code == 1 and "128" in wrong.stderr and "256" in wrong.stderr
    config = json.loads((foreign / "cfg.json").read_text())
    (foreign / "cfg.json").write_text(json.dumps({**config, "threshold_of_my_own": 3}))
    unknown = run("import", str(foreign), "--model", "emoji-resnet", "--layer", "layer3")
    assert unknown.exit_code == 1 and "threshold_of_my_own" in unknown.stderr
    (foreign / "cfg.json").write_text(json.dumps(config))
    (foreign / "sae_weights.safetensors").rename(foreign / "weights.pt")
    (foreign / "weights.pt").write_bytes(b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins")
    pickled = run("import", str(foreign), "--model", "emoji-resnet", "--layer", "layer3")
    assert pickled.exit_code == 1 and "never run" in pickled.stderr
    assert not (nowhere / "models").exists()
