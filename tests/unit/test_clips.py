"""A CLIP that an alignment names is found again by its id, and only as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from miclip import clips
from miclip.catalogue import load_clip
from miclip.clips import ALLOWED_BY_NAME, cards, choose_clip, known_clip_id, load_clip_of, read_card
from miclip.errors import BadArtefact, InvalidInput
from miclip.settings import settings
from tests.tiny_clip import write_tiny_clip


@pytest.fixture
def tiny(tmp_path: Path, data_dir: Path) -> Path:
    return write_tiny_clip(tmp_path / "tiny", seed=1)


def test_a_chosen_clip_is_found_by_its_id_and_embeds_the_same(tiny: Path) -> None:
    chosen = choose_clip(str(tiny), "cpu")
    again = load_clip_of(chosen.clip_id, "cpu")
    assert (again.clip_id, again.dim) == (chosen.clip_id, 16)
    np.testing.assert_array_equal(again.embed_texts(["fur", "a red car"]), chosen.embed_texts(["fur", "a red car"]))
    (card,) = cards()
    assert (card.shown, card.clip_id, card.dim) == ("tiny", chosen.clip_id, 16)


def test_other_weights_are_another_space_and_both_are_known(tiny: Path, tmp_path: Path) -> None:
    one, other = choose_clip(str(tiny), "cpu"), choose_clip(str(write_tiny_clip(tmp_path / "b", seed=2)), "cpu")
    assert one.clip_id != other.clip_id
    assert {card.clip_id for card in cards()} == {one.clip_id, other.clip_id}


@pytest.mark.parametrize("length", [8, 64])
def test_a_known_clip_is_named_by_its_name_or_the_beginning_of_its_id(tiny: Path, length: int) -> None:
    clip_id = choose_clip(str(tiny), "cpu").clip_id
    assert choose_clip(clip_id[:length], "cpu").clip_id == clip_id
    assert known_clip_id("tiny") == known_clip_id(clip_id[:length]) == clip_id


def test_a_name_of_several_clips_wants_the_id(tiny: Path, tmp_path: Path) -> None:
    choose_clip(str(tiny), "cpu")
    choose_clip(str(write_tiny_clip(tmp_path / "elsewhere" / "tiny", seed=2)), "cpu")
    with pytest.raises(InvalidInput, match="several CLIPs; give the id"):
        choose_clip("tiny", "cpu")


def test_a_clip_that_moved_is_known_at_its_new_place(tiny: Path, tmp_path: Path) -> None:
    clip_id = choose_clip(str(tiny), "cpu").clip_id
    tiny.rename(tmp_path / "moved")
    with pytest.raises(BadArtefact, match=r"CLIP tiny cannot be loaded.*miclip align --clip"):
        load_clip_of(clip_id, "cpu")
    assert choose_clip(str(tmp_path / "moved"), "cpu").clip_id == clip_id
    assert load_clip_of(clip_id, "cpu").clip_id == clip_id
    assert [card.shown for card in cards()] == ["moved"]


def test_weights_that_changed_are_not_taken_for_those_of_before(tiny: Path, tmp_path: Path) -> None:
    clip_id = choose_clip(str(tiny), "cpu").clip_id
    other = write_tiny_clip(tmp_path / "other", seed=2) / "open_clip_model.safetensors"
    other.replace(tiny / "open_clip_model.safetensors")
    with pytest.raises(BadArtefact, match="not those of before"):
        load_clip_of(clip_id, "cpu")


def test_the_bundles_clip_needs_no_card(data_dir: Path) -> None:
    demo = load_clip("cpu")
    for text in ("", "default", "demo"):
        assert choose_clip(text, "cpu").clip_id == demo.clip_id
    assert load_clip_of(demo.clip_id, "cpu").clip_id == demo.clip_id
    assert (known_clip_id("demo"), known_clip_id("default")) == (demo.clip_id, "")
    assert cards() == []


def test_the_clip_of_the_settings_stays_known_when_they_change(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    from safetensors.torch import save_file

    model = open_clip.create_model("RN50", pretrained=None)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "rn50.safetensors")
    monkeypatch.setenv("MICLIP_CLIP", "RN50")
    monkeypatch.setenv("MICLIP_CLIP_WEIGHTS", str(tmp_path / "rn50.safetensors"))
    settings.cache_clear()
    clip_id = choose_clip("", "cpu").clip_id
    assert choose_clip("demo", "cpu").clip_id != clip_id
    monkeypatch.delenv("MICLIP_CLIP")
    settings.cache_clear()
    assert load_clip_of(clip_id, "cpu").clip_id == clip_id
    assert choose_clip(f"RN50:{tmp_path / 'rn50.safetensors'}", "cpu").clip_id == clip_id
    assert [card.shown for card in cards()] == ["RN50:rn50.safetensors"]


def test_an_id_that_nobody_knows_says_what_to_do_and_loads_each_bundle_once(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "_bundled_ids", {})
    for _ in range(2):
        with pytest.raises(BadArtefact, match=r"CLIP 000000000000 .* not known here.*--clip NAME:WEIGHTS"):
            load_clip_of("0" * 64, "cpu")
        monkeypatch.setattr(clips.Catalogue, "load_bundled_clip", lambda *_: pytest.fail("loaded again"))


@pytest.mark.parametrize("text", ["../../etc/passwd", "toy-clip", "", "a" * 63])
def test_an_id_is_never_a_path(text: str, data_dir: Path) -> None:
    assert read_card(text) is None


@pytest.mark.parametrize("text", ["nonsense", "/etc/passwd", "tiny", "0" * 64, "x" * 10_000])
def test_a_request_names_no_file(text: str, data_dir: Path) -> None:
    with pytest.raises(InvalidInput, match="is no CLIP") as caught:
        known_clip_id(text)
    assert (caught.value.field, caught.value.allowed) == ("clip", ALLOWED_BY_NAME)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("missing", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_a_folder_that_is_no_clip_is_refused(tiny: Path, missing: str) -> None:
    (tiny / missing).unlink()
    with pytest.raises(InvalidInput, match="'tiny' is no OpenCLIP model that can be read"):
        choose_clip(str(tiny), "cpu")


def test_a_broken_card_is_left_out(tiny: Path, data_dir: Path) -> None:
    clip_id = choose_clip(str(tiny), "cpu").clip_id
    (data_dir / "clips" / "broken.json").write_text("{")
    file = data_dir / "clips" / f"{clip_id}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip_id": "0" * 64}))
    assert read_card(clip_id) is None, "a card speaks for the id that it is named by"
