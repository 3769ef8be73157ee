"""Models load on first use and leave when the budget is reached; cards answer for those that are not loaded."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from miclip.catalogue import Catalogue
from miclip.errors import BadArtefact, NotFound, Overloaded, TooLarge
from miclip.models.files import TargetSpec, write_model
from miclip.models.preprocessing import Preprocessing
from miclip.models.small import small_resnet
from miclip.models.target import TargetModel
from services.activation.batching import Row
from services.activation.budget import Budget
from services.activation.hosting import Hosting
from services.state.active_atlases import ActiveAtlases

LABELS = ("bolt", "nut", "gear")
MODELS = ("a", "b", "c")


class Counted(Catalogue):
    """A catalogue that counts what it loads; ``room`` models fit into the memory that it pretends to have."""

    room = 99

    def __init__(self, imported: Path) -> None:
        super().__init__([], imported)
        self.loads: list[str] = []
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def load_target(self, model: str, device: str | None = None) -> TargetModel:
        self.loads.append(model)
        if len(self.alive) >= self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        target = super().load_target(model, device)
        self.alive.add(target.module)
        return target


def write(folder: Path, model: str, seed: int) -> None:
    torch.manual_seed(seed)
    parameters = {"channels": [8, 8, 8, 8 + 4 * seed], "stem_width": 8}
    spec = TargetSpec(
        architecture="miclip/resnet", parameters=parameters, labels=LABELS, layers=("layer3", "layer4"),
        preprocessing=Preprocessing(32, resize="squash", interpolation="bilinear"),
    )  # fmt: skip
    write_model(folder, model, spec, small_resnet(3, **parameters).state_dict())


@pytest.fixture
def catalogue(data_dir: Path) -> Counted:
    """Three models of different sizes, whose cards were written at an earlier start."""
    for seed, model in enumerate(MODELS):
        write(data_dir / "models", model, seed)
        Catalogue([], data_dir / "models").card(model)
    return Counted(data_dir / "models")


@pytest.fixture
def host(catalogue: Counted) -> Callable[..., Hosting]:
    """Hosting without Redis: the file says which atlas is active."""
    return lambda **limits: Hosting(ActiveAtlases("unix:///nowhere/redis.sock"), catalogue, Budget(**limits))


async def predict(hosting: Hosting, model: str) -> torch.Tensor:
    async with hosting.use(model) as hosted:
        outputs, _ = await hosted.batcher.run([Row(torch.ones(3, 32, 32))])
    return outputs[0].logits


async def test_cards_load_nothing_and_say_what_the_loaded_model_is(
    host: Callable[..., Hosting], catalogue: Counted
) -> None:
    hosting = host()
    cards = {model: await hosting.card(model) for model in hosting.model_ids()}
    assert (list(cards), catalogue.loads, hosting.loaded) == (list(MODELS), [], ())
    for model, card in cards.items():
        async with hosting.use(model) as hosted:
            target = hosted.target
        assert (card.labels, card.input_size) == (target.labels, target.input_size)
        assert card.weights_sha256 == target.weights_sha256
        assert {layer.name: layer.units for layer in card.layers} == target.layer_sizes
        assert card.bytes == sum(t.nbytes for t in target.module.state_dict().values())
    assert catalogue.loads == list(MODELS)


async def test_a_missing_card_is_made_once_however_many_ask(
    host: Callable[..., Hosting], catalogue: Counted, data_dir: Path
) -> None:
    (data_dir / "cards" / "a.json").unlink()
    (data_dir / "cards" / "b.json").write_text("{")
    hosting = host()
    await asyncio.gather(*(hosting.card(model) for model in ("a", "b", "a", "b")))
    assert sorted(catalogue.loads) == ["a", "b"]
    assert hosting.loaded == (), "made beside those that serve"
    assert sorted(path.stem for path in (data_dir / "cards").iterdir()) == list(MODELS)


async def test_a_stale_card_is_made_anew(host: Callable[..., Hosting], catalogue: Counted, data_dir: Path) -> None:
    before = await host().card("a")
    write(data_dir / "models", "a", seed=7)
    after = await host().card("a")
    assert catalogue.loads == ["a"]
    assert (before.layers[1].units, after.layers[1].units) == (8, 36)
    assert before.weights_sha256 != after.weights_sha256


async def test_no_model_and_a_broken_model_are_refused(host: Callable[..., Hosting], data_dir: Path) -> None:
    with pytest.raises(NotFound, match="a, b, c"):
        await host().card("d")
    with pytest.raises(NotFound, match="a, b, c"):
        await predict(host(), "../a")
    (data_dir / "models" / "b.safetensors").write_bytes(b"")
    with pytest.raises(BadArtefact, match="'b'"):
        await predict(host(), "b")


async def test_the_least_recently_used_leaves_and_comes_back_the_same(
    host: Callable[..., Hosting], catalogue: Counted
) -> None:
    hosting = host(models=2)
    first = await predict(hosting, "a")
    await predict(hosting, "b")
    await predict(hosting, "a")
    await predict(hosting, "c")
    assert hosting.loaded == ("a", "c"), "b was used least recently"
    assert len(catalogue.alive) == 2, "what b took is given back"
    await predict(hosting, "b")
    assert hosting.loaded == ("c", "b")
    assert torch.equal(await predict(hosting, "a"), first)
    assert catalogue.loads == ["a", "b", "c", "b", "a"]


async def test_the_budget_counts_bytes(host: Callable[..., Hosting]) -> None:
    sizes = {model: (await host().card(model)).bytes for model in MODELS}
    assert sizes["a"] < sizes["b"] < sizes["c"]
    hosting = host(bytes=sizes["a"] + sizes["b"])
    for model in ("a", "b", "c"):
        await predict(hosting, model)
    assert hosting.loaded == ("c",), "both have to leave for the larger one"


async def test_a_model_beyond_the_budget_is_refused_and_the_others_stay(
    host: Callable[..., Hosting], catalogue: Counted
) -> None:
    hosting = host(bytes=(await host().card("c")).bytes - 1)
    await predict(hosting, "a")
    with pytest.raises(TooLarge, match="MICLIP_MODEL_BYTES"):
        await predict(hosting, "c")
    assert (hosting.loaded, catalogue.loads) == (("a",), ["a"])


async def test_a_model_in_use_or_with_waiting_rows_stays(host: Callable[..., Hosting]) -> None:
    hosting = host(models=1)
    async with hosting.use("a") as hosted:
        with pytest.raises(Overloaded, match="requests use"):
            await predict(hosting, "b")
        waiting = asyncio.create_task(hosted.batcher.run([Row(torch.ones(3, 32, 32))]))
        await asyncio.sleep(0)
    assert hosted.users == 0 and not hosted.batcher.idle
    with pytest.raises(Overloaded, match="requests use"):
        await predict(hosting, "b")
    await waiting
    await asyncio.sleep(0)
    await predict(hosting, "b")
    assert hosting.loaded == ("b",)


async def test_calls_at_once_load_a_model_once_and_stay_within_the_budget(
    host: Callable[..., Hosting], catalogue: Counted
) -> None:
    hosting = host(models=2)
    answers = await asyncio.gather(*(predict(hosting, "ab"[n % 2]) for n in range(12)))
    assert sorted(catalogue.loads) == ["a", "b"]
    assert all(torch.allclose(answers[n], answers[n % 2], atol=1e-6) for n in range(12))


async def test_a_device_without_memory_drops_idle_models_then_refuses(
    host: Callable[..., Hosting], catalogue: Counted
) -> None:
    hosting, catalogue.room = host(), 2
    await predict(hosting, "a")
    await predict(hosting, "b")
    await predict(hosting, "c")
    assert hosting.loaded == ("b", "c")
    async with hosting.use("b"), hosting.use("c"):
        with pytest.raises(Overloaded, match="requests use all 2"):
            await predict(hosting, "a")
    catalogue.room = 0
    with pytest.raises(TooLarge, match="does not fit into the memory"):
        await predict(hosting, "a")
    assert hosting.loaded == ()
    catalogue.room = 2
    assert (await predict(hosting, "a")).shape == (3,), "the replica goes on serving"


async def test_the_active_atlas_is_that_of_the_file_while_redis_is_unreachable(
    host: Callable[..., Hosting], recipe: Any, data_dir: Path
) -> None:
    from miclip.atlas import activate_atlas

    card = await host().card("a")
    made = recipe()
    made.manifest |= {"model": "a", "weights_sha256": card.weights_sha256}
    assert await host().atlas_of(card) == ("", None)
    atlas_id = made.write(data_dir / "atlases")
    activate_atlas(atlas_id)
    assert (await host().atlas_of(card))[0] == atlas_id
    assert await host().atlas_of(card.model_copy(update={"weights_sha256": "f" * 64})) == ("", None)
