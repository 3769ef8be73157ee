"""The aligner service: embeddings in the shared space, alignment jobs, atlases."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from ray import serve

from miclip.atlas import Atlas, AtlasManifest, is_atlas_id, list_atlases, locate_atlas, normalise, read_manifest
from miclip.errors import BadArtefact, InvalidInput, NotAligned, NotFound, NotReady
from miclip.names import ModelName, parse_id, parse_model
from miclip.retrieval.image_trace import image_traces, labels_of
from miclip.retrieval.provenance import provenance
from miclip.v1 import aligner_pb2 as pb
from miclip.v1.resources_pb2 import Embedding
from miclip.wire.aligner import write_embeddings, write_trace
from miclip.wire.common import write_provenance, write_timings
from services.aligner.clip_tower import ClipTowers
from services.aligner.embedding_cache import EmbeddingCache
from services.aligner.image_traces import capture
from services.aligner.jobs import Job, JobStore
from services.aligner.messages import alignment_message, atlas_message, new_spec
from services.aligner.queue import AlignmentQueue
from services.metrics import series
from services.rpc import Call, Scope, Servicer, check_size, check_text, page_of, rpc
from services.state.active_atlases import ActiveAtlases
from services.state.atlas_holder import AtlasHolder
from services.wire.embeddings import embedding_kind
from services.wire.models import KnownModels, layer_ids
from services.wire.top_k import requested_top_k
from services.wire.unit_names import parse_units

_WATCH_S = 0.3
_COUNT_S = 2.0


@dataclass(frozen=True)
class OpenedAtlas:
    """An atlas that is held open."""

    atlas: Atlas


class AlignerServicer(Servicer):
    """Answers ``miclip.v1.AlignerService``."""

    application = "aligner"
    descriptor = pb.DESCRIPTOR.services_by_name["AlignerService"]

    async def start(self) -> None:
        """Load the default CLIP; begin to look for alignments and for newly activated atlases."""
        cache = EmbeddingCache(self.settings.redis_url, self.settings.max_cached_embeddings)
        config = self.settings
        self.clips = await asyncio.to_thread(ClipTowers.open, config.device, cache, config.max_loaded_clips)
        self.models = KnownModels(self.peer("activation"))
        self.active = ActiveAtlases(self.settings.redis_url)
        self.atlases = AtlasHolder(self.active, OpenedAtlas)
        self.jobs = JobStore(self.settings.redis_url, self.settings.alignment_lease_s)
        self.queue = AlignmentQueue(self.jobs, self.settings)
        loops = (self.atlases.follow(), self.queue.run(), self._measure())
        self._background = [asyncio.create_task(loop) for loop in loops]

    @rpc(Scope.READ)
    async def EmbedTexts(self, request: pb.EmbedTextsRequest, call: Call) -> pb.EmbedTextsResponse:
        """Embed texts with CLIP's text tower, through the cache."""
        texts = self._texts(request.texts, "texts")
        clip = await self.clips.get(request.clip_id)
        return pb.EmbedTextsResponse(embeddings=write_embeddings(await clip.embed_texts(texts)), clip_id=clip.clip_id)

    @rpc(Scope.READ)
    async def EmbedImages(self, request: pb.EmbedImagesRequest, call: Call) -> pb.EmbedImagesResponse:
        """Embed images with CLIP's image tower."""
        check_size(request.images, "images", 1, self.settings.max_images)
        clip = await self.clips.get(request.clip_id)
        vectors = await clip.embed_images(request.images)
        return pb.EmbedImagesResponse(embeddings=write_embeddings(vectors), clip_id=clip.clip_id)

    @rpc(Scope.READ)
    async def EmbedUnits(self, request: pb.EmbedUnitsRequest, call: Call) -> pb.EmbedUnitsResponse:
        """Read the embeddings of units from the active atlas."""
        units, kind = parse_units(request.units, self.settings.max_units), embedding_kind(request.embedding)
        atlas = (await self.models.held(self.atlases, units.model, "units[0]")).atlas
        await self.models.check_layers(atlas, units.layers())
        places = units.by_layer(atlas)

        def read() -> list[Embedding]:
            vectors = np.empty((len(units.names), atlas.manifest.clip_dim), np.float32)
            for layer, at in places.items():
                record = atlas.layer(layer)
                rows = getattr(record, kind or record.entry.unit_embedding)
                vectors[at] = normalise(rows[[units.names[place].unit for place in at]])
            return write_embeddings(vectors)

        return pb.EmbedUnitsResponse(
            embeddings=await asyncio.to_thread(read), provenance=write_provenance(provenance(atlas, list(places)))
        )

    @rpc(Scope.READ)
    async def TraceImages(self, request: pb.TraceImagesRequest, call: Call) -> pb.TraceImagesResponse:
        """Compare images with concepts at every aligned layer."""
        model = parse_model(request.model, field="model").model
        check_size(request.images, "images", 1, self.settings.max_images)
        concepts = self._texts(request.concepts, "concepts")
        top_k = requested_top_k(request, self.settings.max_top_k)
        atlas = (await self.models.held(self.atlases, model, "model")).atlas
        clip = await self.clips.get(atlas.manifest.clip_id, "model")
        began = time.perf_counter()
        with series.stage(self.application, "capture"):
            captured = await capture(self.peer("activation"), atlas, request.images, self.settings.max_images)
        ran = time.perf_counter()
        vectors = await clip.embed_texts(concepts)
        embedded = time.perf_counter()
        with series.stage(self.application, "compare"):
            labels = labels_of(atlas, concepts, vectors)
            traces = await asyncio.to_thread(
                image_traces, atlas, captured.activations, captured.logits, vectors, labels, top_k
            )
        spent = {"capture": ran - began, "embed": embedded - ran, "compare": time.perf_counter() - embedded}
        return pb.TraceImagesResponse(
            results=[write_trace(model, trace) for trace in traces],
            provenance=write_provenance(provenance(atlas, atlas.neuron_layers)),
            timings=write_timings(spent),
            labels=labels,
        )

    @rpc(Scope.ALIGN)
    async def CreateAlignment(self, request: pb.CreateAlignmentRequest, call: Call) -> pb.CreateAlignmentResponse:
        """Queue an alignment."""
        name = parse_model(request.model, field="model")
        layers, active = layer_ids(await self.models.get(name, "model")), await self._active_id(name.model)
        spec = await asyncio.to_thread(new_spec, request, name, layers, active, self.settings, call.principal.key_id)
        job = await self.jobs.create(spec, self.settings.max_open_alignments)
        self.queue.wake()
        return pb.CreateAlignmentResponse(alignment=alignment_message(job))

    @rpc(Scope.READ)
    async def GetAlignment(self, request: pb.GetAlignmentRequest, call: Call) -> pb.GetAlignmentResponse:
        """Read an alignment."""
        job = await self.jobs.get(parse_id(request.name, "alignments"))
        return pb.GetAlignmentResponse(alignment=alignment_message(job))

    @rpc(Scope.READ)
    async def ListAlignments(self, request: pb.ListAlignmentsRequest, call: Call) -> pb.ListAlignmentsResponse:
        """List alignments, newest first."""
        ids = await self.jobs.ids()
        page, token = page_of(ids, request, self.settings.max_page_size)
        jobs = [await self.jobs.get(job_id) for job_id in page]
        return pb.ListAlignmentsResponse(alignments=map(alignment_message, jobs), next_page_token=token)

    @rpc(Scope.ALIGN)
    async def CancelAlignment(self, request: pb.CancelAlignmentRequest, call: Call) -> pb.CancelAlignmentResponse:
        """End an alignment."""
        job = await self.jobs.cancel(parse_id(request.name, "alignments"))
        return pb.CancelAlignmentResponse(alignment=alignment_message(job))

    @rpc(Scope.READ)
    async def WatchAlignment(
        self, request: pb.WatchAlignmentRequest, call: Call
    ) -> AsyncIterator[pb.WatchAlignmentResponse]:
        """Stream an alignment until it has ended."""
        job_id, sent = parse_id(request.name, "alignments"), None
        while sent is None or not sent.state.ended:
            job: Job = await self.jobs.get(job_id)
            if job != sent:
                sent = job
                yield pb.WatchAlignmentResponse(alignment=alignment_message(job))
            else:
                await asyncio.sleep(_WATCH_S)

    @rpc(Scope.READ)
    async def ListAtlases(self, request: pb.ListAtlasesRequest, call: Call) -> pb.ListAtlasesResponse:
        """List atlases by id."""
        model = parse_model(request.model, field="model").model if request.model else ""
        found = sorted((await asyncio.to_thread(list_atlases)).items())
        wanted = [item for item in found if model in ("", item[1].model)]
        if model and not wanted:
            await self.models.get(ModelName(model), "model")
        page, token = page_of(wanted, request, self.settings.max_page_size)
        active = {manifest.model: await self._active_id(manifest.model) for _, manifest in page}
        messages = [atlas_message(key, manifest, active=active[manifest.model] == key) for key, manifest in page]
        return pb.ListAtlasesResponse(atlases=messages, next_page_token=token)

    @rpc(Scope.READ)
    async def GetAtlas(self, request: pb.GetAtlasRequest, call: Call) -> pb.GetAtlasResponse:
        """Read what an atlas covers."""
        atlas_id, manifest = await asyncio.to_thread(_manifest, request.name)
        active = await self._active_id(manifest.model) == atlas_id
        return pb.GetAtlasResponse(atlas=atlas_message(atlas_id, manifest, active=active))

    @rpc(Scope.ALIGN)
    async def ActivateAtlas(self, request: pb.ActivateAtlasRequest, call: Call) -> pb.ActivateAtlasResponse:
        """Verify an atlas and make it the active one of its model."""
        atlas_id, manifest = await asyncio.to_thread(_manifest, request.name)
        model = await self.models.get(ModelName(manifest.model), "name")
        if model.weights_sha256 != manifest.weights_sha256:
            raise BadArtefact(
                f"Atlas {atlas_id[:12]} was made for other weights of model {manifest.model} than those served. "
                "Align the model again.",
                field="name",
            )
        await self.clips.get(manifest.clip_id, "name")  # refuse an atlas whose space cannot be searched
        await self.active.activate(atlas_id)
        return pb.ActivateAtlasResponse(atlas=atlas_message(atlas_id, manifest, active=True))

    def _texts(self, texts: Sequence[str], field: str) -> list[str]:
        check_size(texts, field, 1, self.settings.max_texts)
        limit = self.settings.max_text_chars
        return [check_text(text, f"{field}[{place}]", limit) for place, text in enumerate(texts)]

    async def _measure(self) -> None:
        """Note what no call changes; runs until cancelled."""
        import torch

        while True:
            series.watch_gpu(self.application, torch)
            with contextlib.suppress(NotReady):
                for state, count in (await self.jobs.count_by_state()).items():
                    series.ALIGNMENTS.labels(state.value.lower()).set(count)
            await asyncio.sleep(_COUNT_S)

    async def _active_id(self, model: str) -> str:
        try:
            return await self.active.resolve(model)
        except NotAligned:
            return ""


def _manifest(name: str) -> tuple[str, AtlasManifest]:
    """Id and manifest of an atlas by its name; raises InvalidInput, NotFound, or BadArtefact for a broken one."""
    atlas_id = parse_id(name, "atlases")
    if not is_atlas_id(atlas_id):
        allowed = "atlases/ and 64 lower-case hexadecimal digits"
        raise InvalidInput(
            f"name: {name[:80]!r} is not the name of an atlas: {allowed}.", field="name", allowed=allowed
        )
    try:
        return atlas_id, read_manifest(locate_atlas(atlas_id))
    except NotFound as error:
        raise NotFound(f"name: there is no {name}; ListAtlases shows what there is.", field="name") from error


app = serve.deployment(name="aligner")(AlignerServicer).bind()
