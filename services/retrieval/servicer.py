"""The retrieval service: what units mean, and where concepts are."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from numpy.typing import NDArray
from ray import serve

from miclip.atlas import Atlas, locate_atlas
from miclip.errors import InvalidInput
from miclip.kinds import Modality
from miclip.names import check_id, parse_id, parse_layer, parse_model, parse_unit
from miclip.retrieval.provenance import promises_of, provenance
from miclip.retrieval.results import Description, Localization
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import MODEL_LABELS, Vocabulary, builtin_vocabularies, check_concepts
from miclip.v1 import resources_pb2
from miclip.v1 import retrieval_pb2 as pb
from miclip.wire.common import write_kind, write_provenance, write_timings
from miclip.wire.promise import write_promise, write_verdict
from miclip.wire.retrieval import write_description, write_localization, write_record, write_statistics
from services.metrics import series
from services.retrieval import requests
from services.retrieval.vocabulary_resolver import Words
from services.retrieval.vocabulary_store import (
    VocabularyStore,
    already_exists,
    builtin_message,
    vocabulary_message,
)
from services.rpc import Call, Scope, Servicer, check_text, page_of, rpc
from services.state.active_atlases import ActiveAtlases
from services.state.atlas_holder import AtlasHolder
from services.wire.embeddings import embedding_kind
from services.wire.layers import parse_layers
from services.wire.models import KnownModels
from services.wire.top_k import requested_top_k
from services.wire.unit_names import check_unit, parse_units


class RetrievalServicer(Servicer):
    """Answers ``miclip.v1.RetrievalService``."""

    application = "retrieval"
    descriptor = pb.DESCRIPTOR.services_by_name["RetrievalService"]

    async def start(self) -> None:
        """Open the active atlases, and begin to follow them."""
        self.models = KnownModels(self.peer("activation"))
        self.vocabularies = VocabularyStore(self.settings.redis_url)
        self.words = Words(self.peer("aligner"), self.vocabularies, self.settings)
        self.atlases = AtlasHolder(ActiveAtlases(self.settings.redis_url), _open)
        await self.atlases.preload()
        self._background = asyncio.create_task(self.atlases.follow())

    @rpc(Scope.READ)
    async def DescribeUnits(self, request: pb.DescribeUnitsRequest, call: Call) -> pb.DescribeUnitsResponse:
        """Find the concepts of units."""
        units, kind = parse_units(request.units, self.settings.max_units), embedding_kind(request.embedding)
        top_k, concepts = requested_top_k(request, self.settings.max_top_k), self._concepts(request)
        searcher = await self.models.held(self.atlases, units.model, "units[0]")
        await self.models.check_layers(searcher.atlas, units.layers())
        places = units.by_layer(searcher.atlas)
        began = time.perf_counter()
        with series.stage(self.application, "words"):
            vocabulary = await self._vocabulary(request, concepts, searcher)
        embedded = time.perf_counter()

        def search() -> list[pb.UnitDescription]:
            found: dict[int, Description] = {}
            for layer, at in places.items():
                wanted = [units.names[place].unit for place in at]
                found.update(zip(at, searcher.describe(layer, wanted, vocabulary, top_k, kind), strict=True))
            # here, because a million concepts as messages take seconds
            return [write_description(found[place]) for place in range(len(units.names))]

        with series.stage(self.application, "search"):
            found = await asyncio.to_thread(search)
        manifest, promises = searcher.atlas.manifest, promises_of(searcher.atlas, list(places))
        return pb.DescribeUnitsResponse(
            descriptions=found,
            promises=[write_promise(units.model, layer, promise) for layer, promise in promises.items()],
            verdict=write_verdict(manifest.verdict, manifest.keeps_labels) if manifest.verdict else None,
            provenance=write_provenance(provenance(searcher.atlas, list(places), vocabulary.sha256)),
            timings=write_timings({"words": embedded - began, "search": time.perf_counter() - embedded}),
        )

    @rpc(Scope.READ)
    async def LocalizeConcepts(self, request: pb.LocalizeConceptsRequest, call: Call) -> pb.LocalizeConceptsResponse:
        """Find the units of texts and images."""
        model = parse_model(request.model, field="model").model
        requests.check_queries(request, self.settings.max_texts, self.settings.max_images)
        limit = self.settings.max_text_chars
        texts = [check_text(text, f"texts[{place}]", limit) for place, text in enumerate(request.texts)]
        top_k, method = requested_top_k(request, self.settings.max_top_k), requests.method(request.method)
        temperature = requests.temperature(request)
        searcher = await self.models.held(self.atlases, model, "model")
        named = await self.models.check_layers(searcher.atlas, parse_layers(request.layers, model))
        layers = [layer.layer for layer in named] or [searcher.atlas.default_layer]
        began = time.perf_counter()
        with series.stage(self.application, "embed"):
            vectors = await self._queries(texts, list(request.images), searcher.atlas)
        embedded = time.perf_counter()

        def search(part: NDArray[np.float32], concepts: list[str], modality: Modality) -> list[Localization]:
            if not len(part):
                return []
            return searcher.localize(
                part, layers, top_k, concepts=concepts, method=method, modality=modality, temperature=temperature
            )

        with series.stage(self.application, "search"):
            found = await asyncio.to_thread(search, vectors[: len(texts)], texts, "text")
            found += await asyncio.to_thread(search, vectors[len(texts) :], [], "image")
        for one in found:
            evidence = "none" if one.evidence is None else "doubtful" if one.evidence.doubtful else "trusted"
            series.LOCALIZATIONS.labels(model, evidence).inc()
        return pb.LocalizeConceptsResponse(
            localizations=map(write_localization, found),
            method=write_kind(resources_pb2.LocalizationMethod, method),
            provenance=write_provenance(provenance(searcher.atlas, layers)),
            timings=write_timings({"embed": embedded - began, "search": time.perf_counter() - embedded}),
        )

    @rpc(Scope.READ)
    async def GetUnit(self, request: pb.GetUnitRequest, call: Call) -> pb.GetUnitResponse:
        """Read everything known about a unit."""
        name = parse_unit(request.name)
        searcher = await self.models.held(self.atlases, name.model, "name")
        await self.models.check_layers(searcher.atlas, [("name", name.layer_name)])
        check_unit(searcher.atlas, name, "name")

        def read() -> pb.Unit:
            return write_record(searcher.unit_record(name.layer, name.unit, thumbnails=request.include_thumbnails))

        unit = await asyncio.to_thread(read)
        source = provenance(searcher.atlas, [name.layer], searcher.labels.sha256)
        return pb.GetUnitResponse(unit=unit, provenance=write_provenance(source))

    @rpc(Scope.READ)
    async def ListUnits(self, request: pb.ListUnitsRequest, call: Call) -> pb.ListUnitsResponse:
        """List the units of a layer."""
        name = parse_layer(request.parent, field="parent")
        searcher = await self.models.held(self.atlases, name.model, "parent")
        await self.models.check_layers(searcher.atlas, [("parent", name)])
        units = range(searcher.atlas.layer(name.layer).entry.units)
        page, token = page_of(units, request, self.settings.max_page_size)
        found = await asyncio.to_thread(searcher.unit_statistics, name.layer, page)
        return pb.ListUnitsResponse(
            units=map(write_statistics, found),
            next_page_token=token,
            total_size=len(units),
        )

    @rpc(Scope.ALIGN)
    async def CreateVocabulary(self, request: pb.CreateVocabularyRequest, call: Call) -> pb.CreateVocabularyResponse:
        """Embed and keep a vocabulary."""
        vocabulary_id = check_id(request.vocabulary_id, field="vocabulary_id")
        concepts = await asyncio.to_thread(check_concepts, request.concepts)
        if vocabulary_id in builtin_vocabularies() or await self.vocabularies.record(vocabulary_id) is not None:
            raise already_exists(vocabulary_id)
        vocabulary, clip_id = await self.words.of_concepts(concepts, vocabulary_id)
        record = await self.vocabularies.create(vocabulary, clip_id, self.settings.max_vocabularies)
        return pb.CreateVocabularyResponse(vocabulary=vocabulary_message(record))

    @rpc(Scope.READ)
    async def ListVocabularies(self, request: pb.ListVocabulariesRequest, call: Call) -> pb.ListVocabulariesResponse:
        """List vocabularies, those that come with miclip among them."""
        kept = {record.vocabulary_id: record for record in await self.vocabularies.records()}
        builtin = builtin_vocabularies()
        page, token = page_of(sorted({*kept, *builtin}), request, self.settings.max_page_size)
        found = [
            await asyncio.to_thread(builtin_message, key) if key in builtin else vocabulary_message(kept[key])
            for key in page
        ]
        return pb.ListVocabulariesResponse(vocabularies=found, next_page_token=token)

    @rpc(Scope.ALIGN)
    async def DeleteVocabulary(self, request: pb.DeleteVocabularyRequest, call: Call) -> pb.DeleteVocabularyResponse:
        """Delete a vocabulary that a user made."""
        vocabulary_id = parse_id(request.name, "vocabularies")
        if vocabulary_id in builtin_vocabularies():
            text = f"name: vocabularies/{vocabulary_id} comes with miclip and cannot be deleted."
            raise InvalidInput(text, field="name", allowed="a vocabulary that CreateVocabulary made")
        await self.vocabularies.delete(vocabulary_id)
        return pb.DeleteVocabularyResponse()

    def _concepts(self, request: pb.DescribeUnitsRequest) -> tuple[str, ...]:
        """The request's own concepts, checked; none when it names a vocabulary."""
        if request.WhichOneof("words") != "concepts":
            return ()
        return check_concepts(request.concepts.concepts, field="concepts.concepts", limit=self.settings.max_texts)

    async def _vocabulary(
        self, request: pb.DescribeUnitsRequest, concepts: tuple[str, ...], searcher: AtlasSearcher
    ) -> Vocabulary:
        if concepts:
            return await self.words.for_atlas(searcher.atlas, concepts)
        if request.WhichOneof("words") is None:
            return searcher.labels
        chosen = parse_id(request.vocabulary, "vocabularies", field="vocabulary")
        if chosen == MODEL_LABELS:
            return searcher.labels
        return await self.words.named(chosen, searcher.atlas, "vocabulary")

    async def _queries(self, texts: list[str], images: list[bytes], atlas: Atlas) -> NDArray[np.float32]:
        """Embeddings [Q, D] of the texts, then of the images."""
        parts = []
        if texts:
            parts.append(await self.words.embed_texts(texts, atlas.manifest.clip_id))
        if images:
            parts.append(await self.words.embed_images(images, atlas.manifest.clip_id))
        for _, clip_id in parts:
            atlas.check_clip(clip_id)
        return np.concatenate([vectors for vectors, _ in parts])


def _open(atlas: Atlas) -> AtlasSearcher:
    searcher = AtlasSearcher(atlas)
    searcher.warm()
    manifest = atlas.manifest
    series.INDEX_VECTORS.labels(manifest.model).set(sum(layer.units for layer in manifest.layers))
    for index, recall in searcher.recall().items():
        series.INDEX_RECALL.labels(manifest.model, index).set(recall)
    series.ATLAS_WRITTEN.labels(manifest.model).set((locate_atlas(atlas.atlas_id) / "manifest.json").stat().st_mtime)
    return searcher


app = serve.deployment(name="retrieval")(RetrievalServicer).bind()
