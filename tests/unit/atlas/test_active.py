"""Which atlas a model uses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from miclip import atlas as library
from miclip.atlas import (
    activate_atlas,
    active_atlas_id,
    find_atlas,
)
from miclip.errors import BadArtefact, InvalidInput, NotAligned, NotFound


def test_a_model_uses_the_atlas_activated_last(recipe: Any, data_dir: Path) -> None:
    first, second = (recipe(seed=seed).write(library.atlas_root()) for seed in (0, 1))
    with pytest.raises(NotAligned, match="miclip align --model toy"):
        find_atlas("toy")
    activate_atlas(first)
    activate_atlas(second)
    assert active_atlas_id("toy") == find_atlas("toy").atlas_id == second
    assert {first, second} <= set(library.list_atlases())


def test_a_broken_atlas_is_not_activated_and_the_old_one_stays(recipe: Any, data_dir: Path) -> None:
    good, bad = (recipe(seed=seed).write(library.atlas_root()) for seed in (0, 1))
    activate_atlas(good)
    (library.atlas_root() / bad / "layer-001.safetensors").write_bytes(b"")
    with pytest.raises(BadArtefact):
        activate_atlas(bad)
    assert find_atlas("toy").atlas_id == good
    with pytest.raises(NotFound):
        activate_atlas("0" * 64)
    with pytest.raises(InvalidInput):
        activate_atlas("../secret")


def test_an_active_atlas_that_was_deleted_is_named(recipe: Any, data_dir: Path) -> None:
    atlas_id = recipe().write(library.atlas_root())
    activate_atlas(atlas_id)
    shutil.rmtree(library.atlas_root() / atlas_id)
    with pytest.raises(BadArtefact, match=f"{atlas_id[:12]} is missing"):
        find_atlas("toy")


@pytest.mark.parametrize("text", ["{", "[]", '{"toy": "../x"}', '{"toy": 3}'])
def test_a_damaged_list_of_active_atlases_is_refused_until_one_is_activated(
    recipe: Any, data_dir: Path, text: str
) -> None:
    atlas_id = recipe().write(library.atlas_root())
    (data_dir / "active.json").write_text(text)
    with pytest.raises(BadArtefact, match="list of active atlases"):
        find_atlas("toy")
    activate_atlas(atlas_id)
    assert find_atlas("toy").atlas_id == atlas_id
