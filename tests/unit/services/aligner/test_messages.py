"""What an alignment is made from when the request does not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miclip.clips import choose_clip
from miclip.errors import InvalidInput
from miclip.names import ModelName
from miclip.settings import Settings
from miclip.v1 import aligner_pb2 as pb
from services.aligner.messages import new_spec
from tests.tiny_clip import write_tiny_clip

CONFIG = Settings(probe_sets={"photos": Path("/photos"), "toy": Path("/toys")})


def spec(model: str, active: str = "", config: Settings = CONFIG, **fields: Any) -> Any:
    request = pb.CreateAlignmentRequest(model=f"models/{model}", **fields)
    return new_spec(request, ModelName(model), ["layer4"], active, config, "key")


def test_a_demo_model_is_aligned_on_the_demos_images(data_dir: Path) -> None:
    assert spec("emoji-resnet").probe_set == "demo"


@pytest.mark.parametrize("config", [CONFIG, Settings()])
def test_another_model_never_falls_back_to_the_demos_images(data_dir: Path, config: Settings) -> None:
    with pytest.raises(InvalidInput) as caught:
        spec("mine", config=config)
    error = caught.value
    assert error.field == "probe_set" and error.allowed == ", ".join(["demo", *config.probe_sets])
    for part in ("mine comes with no images", error.allowed, "MICLIP_PROBE_SETS", "miclip align --model mine --images"):
        assert part in error.message


def test_a_model_is_aligned_again_on_the_probe_set_of_its_active_atlas(data_dir: Path, recipe: Any) -> None:
    made = recipe()
    atlas = made.write(data_dir / "atlases")
    assert spec("toy", atlas).probe_set == "toy"
    made.manifest["probe"]["set"] = "holiday"
    for active in (made.write(data_dir / "atlases"), "0" * 64):
        with pytest.raises(InvalidInput, match="toy comes with no images"):
            spec("toy", active)
    assert spec("toy", atlas, probe_set="photos").probe_set == "photos"


def test_a_clip_is_named_as_the_server_knows_it(data_dir: Path, tmp_path: Path) -> None:
    tiny = write_tiny_clip(tmp_path / "tiny", seed=1)
    clip_id = choose_clip(str(tiny), "cpu").clip_id
    assert spec("emoji-resnet").clip_id == ""
    assert spec("emoji-resnet", clip="tiny").clip_id == spec("emoji-resnet", clip=clip_id).clip_id == clip_id
    with pytest.raises(InvalidInput, match="is no CLIP"):
        spec("emoji-resnet", clip=str(tiny))
