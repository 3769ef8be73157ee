"""The target models of an activation replica, each with its batcher and what its active atlas says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

import torch
from torch import Tensor

from miclip.atlas import Atlas, AtlasManifest, active_atlas_id, locate_atlas
from miclip.bundles import bundle_of_model
from miclip.catalogue import Catalogue, pick_device
from miclip.cpus import available_cpus
from miclip.errors import BadArtefact, MiclipError, NotAligned, NotFound, NotReady, TooLarge
from miclip.images import decode_image
from miclip.models.card import ModelCard
from miclip.models.target import TargetModel
from miclip.settings import settings
from services.activation.batching import Batcher
from services.activation.budget import Budget, Load, idle
from services.activation.drift import DriftWatch
from services.metrics import series
from services.state.active_atlases import ActiveAtlases

_GPU_S = 5.0
_ATLAS_S = 5.0
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")

log = logging.getLogger("miclip.hosting")


@dataclass(eq=False)
class Hosted:
    """A loaded model.

    Attributes:
        target: The model.
        card: What it is.
        batcher: Its queue.
        drift: Watches whether its labels still hold.
        users: Requests that use it now.
    """

    target: TargetModel
    card: ModelCard
    batcher: Batcher
    drift: DriftWatch
    users: int = 0

    @property
    def busy(self) -> bool:
        """Whether requests use it, or rows of theirs still wait or run."""
        return self.users > 0 or not self.batcher.idle


class Hosting:
    """Loads models when they are asked for, drops the least recently used where the budget ends, decodes in threads.

    Args:
        active: Which atlas is active.
        catalogue: The models that there are; the default catalogue by default.
        budget: How much may be loaded; by default what the settings say.
    """

    def __init__(self, active: ActiveAtlases, catalogue: Catalogue | None = None, budget: Budget | None = None) -> None:
        torch.set_num_threads(available_cpus())  # Ray asks for one
        self._active = active
        self._catalogue = catalogue or Catalogue()
        self._budget = budget or Budget(settings().max_loaded_models, settings().model_bytes)
        self.device = torch.device(pick_device()).type
        self._hosted: dict[str, Hosted] = {}  # the least recently used first
        self._loading, self._describing = asyncio.Lock(), asyncio.Lock()
        self._atlases: dict[str, Atlas] = {}
        self._decoders = ThreadPoolExecutor(max(2, available_cpus()), thread_name_prefix="decode")

    @property
    def loaded(self) -> tuple[str, ...]:
        """Ids of the loaded models, the least recently used first."""
        return tuple(self._hosted)

    def model_ids(self) -> list[str]:
        """Ids of the catalogue, sorted."""
        return sorted(self._catalogue.model_ids())

    async def preload(self) -> None:
        """Load the models of the bundles, as far as the budget goes; the others are loaded when first asked for."""
        for model in self.model_ids():
            if not bundle_of_model(model):
                continue
            if self._budget.fits(self._loads(), (await self.card(model)).bytes):
                await self._get(model)
            else:
                log.warning("%s is not loaded at the start: the budget is reached", model)

    async def card(self, model: str) -> ModelCard:
        """What a model is; loads it only where that was never written down. Raises NotFound or BadArtefact."""
        if (hosted := self._hosted.get(model)) is not None:
            return hosted.card
        async with self._describing:  # a card that many ask for is made once
            return await asyncio.to_thread(self._catalogue.card, model)

    @contextlib.asynccontextmanager
    async def use(self, model: str) -> AsyncIterator[Hosted]:
        """Hold a model for a request: it is loaded, and stays so until the block ends.

        Raises:
            NotFound: no such model.
            TooLarge: it does not fit into the budget or the device.
            Overloaded: requests use all loaded models, and there is no room for another.
        """
        hosted = await self._get(model)
        self._hosted[model] = self._hosted.pop(model)  # now the most recently used
        hosted.users += 1
        try:
            yield hosted
        finally:
            hosted.users -= 1

    async def atlas_of(self, card: ModelCard) -> tuple[str, AtlasManifest | None]:
        """Id and manifest of the model's active atlas; empty when it has none that can be used."""
        try:
            atlas = await self._atlas(card)
        except (NotAligned, BadArtefact) as error:
            log.info("%s: %s", card.model, error.message)
            return "", None
        return atlas.atlas_id, atlas.manifest

    async def maxima(self, hosted: Hosted) -> Callable[[str, int], float]:
        """Maxima of the units over the probe images; raises NotAligned."""
        atlas = await self._atlas(hosted.card)
        return lambda layer, unit: float(atlas.layer(layer).maximum[unit])

    async def decode(self, images: Sequence[bytes], target: TargetModel) -> list[Tensor]:
        """Decode and preprocess, in order; raises InvalidInput naming the first bad image."""
        loop = asyncio.get_running_loop()
        jobs = [
            loop.run_in_executor(self._decoders, copy_context().run, _decode, data, i, target)
            for i, data in enumerate(images)
        ]
        return [*await asyncio.gather(*jobs)]

    async def watch_gpus(self) -> None:
        """Note the memory of the GPUs now and then; runs until cancelled, ends at once where there is none."""
        while torch.cuda.is_available():
            series.watch_gpu("activation", torch)
            await asyncio.sleep(_GPU_S)

    async def watch_drift(self) -> None:
        """Compare every model's live images with its active atlas, whichever it is by then; runs until cancelled."""
        while True:
            for model in self.loaded:
                await self._watch(model)
            await asyncio.sleep(_ATLAS_S)

    async def _watch(self, model: str) -> None:
        hosted = self._hosted.get(model)
        if hosted is None:
            return
        try:
            atlas = await self._atlas(hosted.card)
            await asyncio.to_thread(hosted.drift.follow, atlas)
        except (NotAligned, BadArtefact):
            return  # nothing to compare with
        except Exception:
            log.exception("label drift of %s is not watched", model)

    async def _get(self, model: str) -> Hosted:
        if model not in self._hosted:
            card = await self.card(model)
            async with self._loading:
                if model not in self._hosted:
                    self._hosted[model] = await self._load(card)
        return self._hosted[model]

    async def _load(self, card: ModelCard) -> Hosted:
        """Load a model after making room for it; one is loaded at a time, so that two never share the same room."""
        model, limits = card.model, settings()
        while (victim := self._budget.victim(self._loads(), model, card.bytes)) is not None:
            await self._evict(victim)
        while (target := await asyncio.to_thread(self._try_to_load, model)) is None:
            if not self._hosted:
                text = f"Model {model!r} does not fit into the memory of this server's device ({self.device})."
                raise TooLarge(f"{text} Use a smaller model, or a device with more memory.", field="model")
            await self._evict(idle(self._loads(), model))
        card = await asyncio.to_thread(self._catalogue.save_card, target)
        series.hosts(model)
        log.info("loaded %s on %s", model, target.device)
        batcher = Batcher(target, limits.max_batch, limits.batch_wait_s)
        return Hosted(target, card, batcher, DriftWatch(model, limits.drift_interval_s))

    def _try_to_load(self, model: str) -> TargetModel | None:
        """A model; None when the device's memory does not suffice."""
        try:
            return self._catalogue.load_target(model)
        except MiclipError:
            raise
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            log.warning("no memory for %s: %s", model, error)
        _release_memory()
        return None

    def _loads(self) -> list[Load]:
        return [Load(model, hosted.card.bytes, hosted.busy) for model, hosted in self._hosted.items()]

    async def _evict(self, model: str) -> None:
        """Drop a model that nobody uses, with all that is kept for it."""
        self._hosted.pop(model).batcher.close()
        self._forget_atlases(model)
        series.drops(model)
        log.info("dropped %s to make room", model)
        await asyncio.to_thread(_release_memory)

    async def _atlas(self, card: ModelCard) -> Atlas:
        """The model's active atlas; raises NotAligned, or BadArtefact when it cannot be used."""
        try:
            atlas_id = await self._active.resolve(card.model)
        except NotReady:
            atlas_id = await asyncio.to_thread(active_atlas_id, card.model)
        if atlas_id not in self._atlases:
            atlas = await asyncio.to_thread(_open_atlas, atlas_id, card)
            self._forget_atlases(card.model)  # those that were active before
            self._atlases[atlas_id] = atlas
        return self._atlases[atlas_id]

    def _forget_atlases(self, model: str) -> None:
        for atlas_id in [key for key, atlas in self._atlases.items() if atlas.manifest.model == model]:
            del self._atlases[atlas_id]


def _open_atlas(atlas_id: str, card: ModelCard) -> Atlas:
    try:
        folder = locate_atlas(atlas_id).parent
    except NotFound as error:
        raise BadArtefact(f"The active atlas {atlas_id[:12]} is missing. Activate another, or align again.") from error
    atlas = Atlas.open(folder, atlas_id, model_weights_sha256=card.weights_sha256)
    served = {layer.name: layer.dictionary.sha256 for layer in card.layers if layer.dictionary}
    _check_dictionaries(atlas.manifest, served)
    return atlas


def _check_dictionaries(manifest: AtlasManifest, served: Mapping[str, str]) -> None:
    for entry in manifest.layers:
        if entry.dictionary and entry.name in served and entry.dictionary.sha256 != served[entry.name]:
            text = f"The atlas of {manifest.model} was made for another dictionary {entry.name!r} than the one served."
            raise BadArtefact(f"{text} Align the model again.")


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def _release_memory() -> None:
    """Give what dropped models held back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _decode(data: bytes, index: int, target: TargetModel) -> Tensor:
    with series.stage("activation", "decode"):
        image = decode_image(data, field=f"images[{index}]")
    with series.stage("activation", "preprocess"):
        return target.preprocess(image)
