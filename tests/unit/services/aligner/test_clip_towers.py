"""Several spaces in one replica: a call that names a CLIP is answered by it, and no space waits for another to load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miclip.clips import choose_clip, load_clip_of
from miclip.errors import BadArtefact, InvalidInput
from miclip.models.clip import Clip
from services.aligner.clip_tower import ClipTowers
from services.aligner.embedding_cache import EmbeddingCache
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("clips")
    return [write_tiny_clip(root / f"clip{seed}", seed, dim=8 * (1 + seed)) for seed in range(4)]


@pytest.fixture
def spaces(folders: list[Path], data_dir: Path) -> list[Clip]:
    return [choose_clip(str(folder), "cpu") for folder in folders]


@pytest.fixture
async def cache(redis: Any) -> Iterator[EmbeddingCache]:
    made = EmbeddingCache(redis.url, 1000)
    yield made
    await made.close()


@pytest.fixture
def towers(spaces: list[Clip], cache: EmbeddingCache) -> Callable[..., ClipTowers]:
    def make(most: int = 3, load: Callable[[str], Clip] = lambda clip_id: load_clip_of(clip_id, "cpu")) -> ClipTowers:
        return ClipTowers(spaces[0], cache, most, load)

    return make


async def test_texts_and_images_are_embedded_in_the_space_that_is_named(
    towers: Any, spaces: list[Clip], dog: bytes
) -> None:
    from miclip.images import decode_image

    held = towers(most=10)
    for clip in spaces:
        tower = await held.get(clip.clip_id)
        for _ in range(2):  # the second time from the cache, which keeps the spaces apart
            np.testing.assert_allclose(await tower.embed_texts(["dog"]), clip.embed_texts(["dog"]), atol=1e-6)
        expected = clip.embed_images([decode_image(dog, field="x")])
        np.testing.assert_allclose(await tower.embed_images([dog]), expected, atol=1e-6)
    assert await held.get("") is await held.get(spaces[0].clip_id) is held.default


async def test_the_least_recently_used_space_leaves_and_comes_back(towers: Any, spaces: list[Clip]) -> None:
    loaded: list[str] = []

    def load(clip_id: str) -> Clip:
        loaded.append(clip_id)
        return load_clip_of(clip_id, "cpu")

    held, (a, b, c) = towers(most=3, load=load), [clip.clip_id for clip in spaces[1:]]
    for clip_id in (a, b, a, c, a, b):
        assert (await held.get(clip_id)).clip_id == clip_id
    assert loaded == [a, b, c, b], "a was used last each time that one had to leave"
    assert len(held._others) == 2


async def test_many_calls_load_a_space_once_and_the_others_go_on(towers: Any, spaces: list[Clip]) -> None:
    may_load, loads = threading.Event(), []

    def load(clip_id: str) -> Clip:
        loads.append(clip_id)
        if clip_id == spaces[2].clip_id:
            assert may_load.wait(30)
        return load_clip_of(clip_id, "cpu")

    held = towers(load=load)
    warm = await held.get(spaces[1].clip_id)
    waiting = [asyncio.create_task(held.get(spaces[2].clip_id)) for _ in range(5)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()  # a caller who leaves takes nothing from the others
    assert (await asyncio.wait_for(held.get(spaces[1].clip_id), 5)) is warm
    assert (await asyncio.wait_for(warm.embed_texts(["fur"]), 5)).shape == (1, 16)
    assert (await asyncio.wait_for(held.default.embed_texts(["fur"]), 5)).shape == (1, 8)
    may_load.set()
    assert {tower.clip_id for tower in await asyncio.gather(*waiting[1:])} == {spaces[2].clip_id}
    assert loads == [spaces[1].clip_id, spaces[2].clip_id]


async def test_a_space_that_is_not_known_or_no_id_is_refused(towers: Any) -> None:
    held = towers()
    for _ in range(2):
        with pytest.raises(BadArtefact, match="not known here"):
            await held.get("0" * 64)
    for text in ("../clips/x", "toy", "A" * 64):
        with pytest.raises(InvalidInput, match=r"clip_id: .* is no CLIP's id"):
            await held.get(text)
    assert (await held.get("")) is held.default
