"""``miclip models``, ``layers``, ``atlases`` and ``rm``, on models that the test imports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from miclip.atlas import activate_atlas, list_atlases
from miclip.catalogue import Catalogue
from miclip.cli.app import app
from miclip.settings import settings

NET = """
from torch import nn


def make():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3),
    )
    return module, {"labels": ["a", "b", "c"], "size": 32}
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with one imported model, ``net``, on which no server runs."""
    monkeypatch.setenv("MICLIP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MICLIP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    (tmp_path / "net.py").write_text(NET)
    Catalogue().import_model("net", "net.py:make")
    yield
    settings.cache_clear()


@pytest.fixture
def atlas(recipe: Any, tmp_path: Path) -> str:
    """The active atlas of ``net``; its layers are not those of the model, which these commands do not mind."""
    made = recipe()
    made.manifest["model"] = "net"
    atlas_id = made.write(tmp_path / "data" / "atlases")
    activate_atlas(atlas_id)
    return str(atlas_id)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def answer(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refusal(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 1
    return result.stderr


def test_models_say_where_they_come_from_and_what_they_have(atlas: str) -> None:
    found = {model["model"]: model for model in answer("models")}
    assert list(found) == ["emoji-resnet", "emoji-vit", "net"]
    assert (found["net"]["origin"], found["net"]["source"]) == ("imported", "net.py:make")
    assert found["net"]["atlas"] == f"atlases/{atlas}"
    assert [layer["layer"] for layer in found["net"]["layers"]] == ["1", "3", "7", "logits"]
    assert found["emoji-vit"]["origin"] == "bundle"
    assert "NOTICE" in found["emoji-vit"]["licence"]
    assert "net.py:make" in run("models").stdout


def test_a_broken_model_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "data" / "cards" / "net.json").unlink()
    (tmp_path / "data" / "models" / "net.safetensors").write_bytes(b"")
    found = {model["model"]: model for model in answer("models")}
    assert "'net'" in found["net"]["error"]
    assert found["emoji-resnet"]["error"] is None


def test_layers_of_a_known_model_with_shapes_features_and_whether_they_are_aligned() -> None:
    found = {layer["layer"]: layer for layer in answer("layers", "emoji-resnet")["layers"]}
    assert found["layer4"]["aligned"]
    assert found["layer4"]["shape"][0] == found["layer4"]["units"] == 256
    assert any(layer["kind"] == "features" for layer in found.values())
    assert not any(layer["aligned"] for layer in answer("layers", "net")["layers"])


def test_layers_of_a_source_that_is_not_imported(tmp_path: Path) -> None:
    value = answer("layers", "net.py:make", "--all")
    assert (value["input_size"], value["labels"]) == (32, 3)
    assert [layer["layer"] for layer in value["layers"] if layer["default"]] == ["1", "3", "7", "logits"]
    assert {"0", "2", "5"} < {layer["layer"] for layer in value["layers"]}
    timm = answer("layers", "timm/test_resnet")
    assert timm["layers"][-1] == {
        "layer": "logits", "kind": "logits", "units": 1000, "shape": [1000], "default": True, "aligned": False,
    }  # fmt: skip
    assert sorted(path.stem for path in (tmp_path / "data" / "models").glob("*.json")) == ["net"]
    assert "file.py:factory" in refusal("layers", "nowhere/resnet50")
    assert "There is no model 'nothing'" in refusal("layers", "nothing")


def test_atlases_are_listed_with_the_active_ones_marked(atlas: str) -> None:
    found = {value["atlas"].removeprefix("atlases/"): value for value in answer("atlases")}
    assert found.keys() == list_atlases().keys()
    assert (found[atlas]["model"], found[atlas]["active"], found[atlas]["bundled"]) == ("net", True, False)
    folder = settings().data_dir / "atlases" / atlas
    assert found[atlas]["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert sum(value["bundled"] for value in found.values()) == 2
    assert atlas[:12] in run("atlases").stdout


def test_what_is_active_or_bundled_is_not_removed(atlas: str) -> None:
    assert "--force" in refusal("rm", f"atlases/{atlas}", "--yes")
    assert "--force" in refusal("rm", "models/net", "--yes")
    assert "comes with a bundle" in refusal("rm", "models/emoji-vit", "--yes", "--force")
    bundled = next(value["atlas"] for value in answer("atlases") if value["bundled"])
    assert "comes with a bundle" in refusal("rm", bundled, "--yes", "--force")
    assert len(answer("models")) == 3
    assert len(answer("atlases")) == 3


def test_removing_needs_a_yes_and_names_that_exist(atlas: str) -> None:
    assert "--yes" in refusal("rm", f"atlases/{atlas[:12]}", "--force")
    assert "models/ID or atlases/ID" in refusal("rm", "net", "--yes")
    assert "no model 'nothing'" in refusal("rm", "models/nothing", "--yes")
    assert "no atlas '0123'" in refusal("rm", "models/net", "atlases/0123", "--yes", "--force")
    assert "net" in Catalogue().model_ids()  # nothing is removed where one name is wrong
    assert atlas in list_atlases()


def test_an_atlas_goes_by_its_first_digits_and_the_model_then_has_none(atlas: str) -> None:
    assert answer("rm", f"atlases/{atlas[:12]}", "--yes", "--force") == {"removed": [f"atlases/{atlas}"]}
    assert atlas not in list_atlases()
    assert {model["model"]: model["atlas"] for model in answer("models")}["net"] == ""
    assert list((settings().data_dir / "atlases").iterdir()) == []


def test_a_model_goes_with_its_weights_and_card_and_its_atlas_stays(atlas: str, tmp_path: Path) -> None:
    assert answer("rm", "models/net", "--yes", "--force") == {"removed": ["models/net"]}
    assert list((tmp_path / "data" / "models").iterdir()) == []
    assert not (tmp_path / "data" / "cards" / "net.json").exists()
    assert not {value["atlas"]: value for value in answer("atlases")}[f"atlases/{atlas}"]["active"]
    Catalogue().import_model("net", "net.py:make")  # the id is free again


def test_a_server_that_runs_here_is_mentioned(atlas: str, tmp_path: Path) -> None:
    import os

    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "server.json").write_text(json.dumps({"pid": os.getpid(), "grpc": "127.0.0.1:9"}))
    result = run("rm", f"atlases/{atlas}", "--yes", "--force")
    assert result.exit_code == 0
    assert "127.0.0.1:9" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mean", "a,b,c"], "--mean: 'a,b,c' cannot be read"),
        (["--mean", "0.5,0.5"], "one number, or three"),
        (["--std", "0"], "--std: a deviation is greater than 0"),
        (["--remote"], "--size"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(options: list[str], message: str) -> None:
    assert message in refusal("align", "--model", "net.py:make", "--size", "32", *options)
