"""The target models of an activation replica, each with its batcher and what its active atlas says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

import torch
from torch import Tensor

from miclip.atlas import Atlas, AtlasManifest, find_atlas
from miclip.atlas.store import active_atlas_id
from miclip.catalogue import DEMO_MODELS, Catalogue
from miclip.cpus import available_cpus
from miclip.errors import BadArtefact, NotAligned
from miclip.images import decode_image
from miclip.models.target import TargetModel
from miclip.settings import settings
from services.activation.batching import Batcher
from services.activation.drift import DriftWatch
from services.metrics import series

_GPU_S = 5.0
_ATLAS_S = 5.0

log = logging.getLogger("miclip.hosting")


@dataclass(frozen=True)
class Hosted:
    """A loaded model.

    Attributes:
        target: The model.
        batcher: Its queue.
        drift: Watches whether its labels still hold.
    """

    target: TargetModel
    batcher: Batcher
    drift: DriftWatch


class Hosting:
    """Loads models once, at start or when first asked for, and decodes images in threads."""

    def __init__(self) -> None:
        torch.set_num_threads(available_cpus())  # Ray asks for one
        self._catalogue = Catalogue()
        self._hosted: dict[str, Hosted] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._atlases: dict[str, Atlas] = {}
        self._decoders = ThreadPoolExecutor(max(2, available_cpus()), thread_name_prefix="decode")

    def model_ids(self) -> list[str]:
        """Ids of the catalogue, sorted."""
        return sorted(self._catalogue.model_ids())

    async def preload(self) -> None:
        """Load the models that come with the package; the others are loaded when first asked for."""
        for model in self.model_ids():
            if (DEMO_MODELS / f"{model}.json").is_file():
                await self.get(model)

    async def get(self, model: str) -> Hosted:
        """A model, loaded; raises NotFound."""
        if model not in self._hosted:
            if model not in self._locks:
                await asyncio.to_thread(self._check_known, model)
            async with self._locks.setdefault(model, asyncio.Lock()):
                if model not in self._hosted:
                    self._hosted[model] = await self._load(model)
        return self._hosted[model]

    async def atlas_of(self, hosted: Hosted) -> tuple[str, AtlasManifest | None]:
        """Id and manifest of the model's active atlas; empty when it has none that can be used."""
        try:
            atlas_id, atlas = await asyncio.to_thread(self._open_atlas, hosted.target)
        except (NotAligned, BadArtefact) as error:
            log.info("%s: %s", hosted.target.name, error.message)
            return "", None
        return atlas_id, atlas.manifest

    async def maxima(self, hosted: Hosted) -> Callable[[str, int], float]:
        """Maxima of the units over the probe images; raises NotAligned."""
        _, atlas = await asyncio.to_thread(self._open_atlas, hosted.target)
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
            for hosted in [*self._hosted.values()]:
                try:
                    await asyncio.to_thread(self._watch, hosted)
                except (NotAligned, BadArtefact):
                    continue  # nothing to compare with
                except Exception:
                    log.exception("label drift of %s is not watched", hosted.target.name)
            await asyncio.sleep(_ATLAS_S)

    def _watch(self, hosted: Hosted) -> None:
        hosted.drift.follow(self._open_atlas(hosted.target)[1])

    def _check_known(self, model: str) -> None:
        if model not in self._catalogue.model_ids():
            self._catalogue.load_target(model)  # raises NotFound with the list

    async def _load(self, model: str) -> Hosted:
        target = await asyncio.to_thread(self._catalogue.load_target, model)
        await asyncio.to_thread(lambda: target.weights_sha256)
        limits = settings()
        series.hosts(model)
        log.info("loaded %s on %s", model, target.device)
        batcher = Batcher(target, limits.max_batch, limits.batch_wait_s)
        return Hosted(target, batcher, DriftWatch(model, limits.drift_interval_s))

    def _open_atlas(self, target: TargetModel) -> tuple[str, Atlas]:
        atlas_id = active_atlas_id(target.name)
        if atlas_id not in self._atlases:
            atlas = find_atlas(target.name, model_weights_sha256=target.weights_sha256)
            _check_dictionaries(atlas.manifest, target)
            self._atlases[atlas_id] = atlas
        return atlas_id, self._atlases[atlas_id]


def _check_dictionaries(manifest: AtlasManifest, target: TargetModel) -> None:
    for entry in manifest.layers:
        sae = target.dictionaries.get(entry.name)
        if sae and entry.dictionary and entry.dictionary.sha256 != sae.sha256:
            text = f"The atlas of {target.name} was made for another dictionary {entry.name!r} than the one served."
            raise BadArtefact(f"{text} Align the model again.")


def _decode(data: bytes, index: int, target: TargetModel) -> Tensor:
    with series.stage("activation", "decode"):
        image = decode_image(data, field=f"images[{index}]")
    with series.stage("activation", "preprocess"):
        return target.preprocess(image)
