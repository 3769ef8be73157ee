"""Answers of the library alone, in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from miclip.atlas import find_atlas
from miclip.catalogue import check_known, load_target
from miclip.client.plan import Image, as_list, read_images
from miclip.clips import load_clip_of
from miclip.errors import InvalidInput, NotAligned
from miclip.images import decode_image
from miclip.kinds import LocalizationMethod, UnitEmbedding
from miclip.models.predictions import AppliedSteering, ImagePrediction, PredictResult, top_predictions
from miclip.names import ModelName, UnitName, parse_unit
from miclip.retrieval.image_trace import image_traces, labels_of
from miclip.retrieval.provenance import provenance
from miclip.retrieval.results import DEFAULT_TOP_K, DescribeResult, Description, LocalizeResult, TraceResult
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import (
    MODEL_LABELS,
    EmbedTexts,
    Vocabulary,
    builtin_concepts,
    check_concept,
    check_concepts,
    embed_vocabulary,
)
from miclip.steering.edits import Edit, compile_edits, fingerprint, validate_edits
from miclip.v1 import activation_pb2, resources_pb2
from miclip.wire.common import write_kind

if TYPE_CHECKING:
    from miclip.models.clip import Clip
    from miclip.models.target import TargetModel

_EMBEDDINGS = ("filter", "pattern", "causal")
_METHODS = ("attribution", *_EMBEDDINGS)


class LocalBackend:
    """The library behind the methods of the client; loads what an answer needs, once."""

    def get_model(self, model: str) -> activation_pb2.Model:
        """Return the layers that the model's atlas covers; raises NotAligned."""
        atlas = _searcher(model).atlas
        layers = [
            activation_pb2.Layer(
                name=f"{ModelName(model)}/layers/{entry.name}",
                kind=write_kind(resources_pb2.LayerKind, entry.kind),
                units=entry.units,
                aligned=True,
            )
            for entry in atlas.manifest.layers
        ]
        return activation_pb2.Model(name=str(ModelName(model)), layers=layers, atlas=atlas.name)

    def describe(
        self,
        units: Sequence[str | UnitName] = (),
        *,
        vocabulary: str = "",
        concepts: Sequence[str] = (),
        top_k: int | None = None,
        embedding: str | None = None,
    ) -> DescribeResult:
        """Return the concepts of units of one model, in order."""
        kind = cast("UnitEmbedding", _one_of(embedding, _EMBEDDINGS, "--embedding")) if embedding else None
        names = [parse_unit(unit) if isinstance(unit, str) else unit for unit in units]
        searcher = _searcher(names[0].model)
        words = self._vocabulary(searcher, vocabulary, concepts)
        answers: dict[UnitName, Description] = {}
        layers = list(dict.fromkeys(name.layer for name in names))
        for layer in layers:
            places = [name.unit for name in names if name.layer == layer]
            descriptions = searcher.describe(layer, places, words, top_k or DEFAULT_TOP_K, kind)
            answers.update({description.name: description for description in descriptions})
        atlas = searcher.atlas
        return DescribeResult(
            tuple(answers[name] for name in names),
            atlas.manifest.verdict,
            provenance(atlas, layers, words.sha256),
            {},
        )

    def localize(
        self,
        texts: Sequence[str] | str = (),
        *,
        model: str,
        images: Iterable[Image] = (),
        layers: Sequence[str] = (),
        top_k: int | None = None,
        method: str | None = None,
    ) -> LocalizeResult:
        """Return the units of each text, in order, then those of each image."""
        chosen = cast("LocalizationMethod", _one_of(method or "attribution", _METHODS, "--method"))
        searcher = _searcher(model)
        concepts = [check_concept(text, f"CONCEPT[{place}]") for place, text in enumerate(as_list(texts))]
        queries, count, localizations = self._embed(searcher)(concepts), top_k or DEFAULT_TOP_K, []
        if concepts:
            localizations += searcher.localize(queries, layers, count, concepts=concepts, method=chosen)
        if shown := _decoded(images):
            vectors = _clip(searcher.atlas.manifest.clip_id).embed_images(shown)
            localizations += searcher.localize(vectors, layers, count, method=chosen, modality="image")
        searched = list(layers) or [searcher.atlas.default_layer]
        return LocalizeResult(tuple(localizations), provenance(searcher.atlas, searched), {})

    def predict(
        self,
        images: Iterable[Image],
        *,
        model: str,
        policy: str = "",
        edits: Sequence[Edit] | None = None,
        include_baseline: bool = False,
        top_k: int | None = None,
    ) -> PredictResult:
        """Classify images without and with steering, in one batch."""
        if policy:
            raise InvalidInput("--steer: policies live in a server; leave out --local to use one.", field="--steer")
        target = load_target(model)
        steered = list(edits or ())
        validate_edits(steered, target.layer_sizes, field="--steer")
        inputs = _inputs(target, images)
        rows = [steered] * len(inputs)
        if include_baseline:
            rows, inputs = rows + [[]] * len(inputs), torch.cat([inputs, inputs])
        batch = compile_edits(rows, target.layer_sizes)
        logits = target.forward(inputs, edits=batch).logits.cpu().numpy()
        answers = [top_predictions(row, target.labels, top_k or DEFAULT_TOP_K) for row in logits]
        half = len(rows) // 2
        sides = zip(answers[:half], answers[half:], strict=True) if include_baseline else zip(answers, strict=True)
        return PredictResult(
            images=tuple(ImagePrediction(*side) for side in sides),
            steering=AppliedSteering("applied", fingerprint=fingerprint(steered)) if batch else AppliedSteering("none"),
            timings={},
            weights_sha256=target.weights_sha256,
        )

    def trace(
        self, images: Iterable[Image], *, model: str, concepts: Sequence[str] | str, top_k: int | None = None
    ) -> TraceResult:
        """Compare images with concepts at every aligned layer."""
        target, texts = load_target(model), check_concepts(as_list(concepts), field="--against")
        searcher = AtlasSearcher(find_atlas(model, model_weights_sha256=target.weights_sha256))
        names = searcher.atlas.neuron_layers
        output = target.forward(_inputs(target, images), capture=names)
        activations = {name: output.activations[name].cpu().numpy() for name in names}
        embeddings = np.asarray(self._embed(searcher)(list(texts)), np.float32)
        labels = labels_of(searcher.atlas, texts, embeddings)
        logits, count = output.logits.cpu().numpy(), top_k or DEFAULT_TOP_K
        traces = image_traces(searcher.atlas, activations, logits, embeddings, labels, count)
        return TraceResult(texts, labels, traces, provenance(searcher.atlas, names), {})

    def _embed(self, searcher: AtlasSearcher) -> EmbedTexts:
        """Return what embeds texts in the space of an atlas; raises BadArtefact where its CLIP is not known here."""
        return _clip(searcher.atlas.manifest.clip_id).embed_texts

    def _vocabulary(self, searcher: AtlasSearcher, vocabulary: str, concepts: Sequence[str]) -> Vocabulary:
        if concepts:
            return embed_vocabulary("", check_concepts(concepts, field="--concept"), self._embed(searcher))
        if vocabulary in ("", MODEL_LABELS):
            return searcher.labels
        return embed_vocabulary(vocabulary, builtin_concepts(vocabulary), self._embed(searcher))


@cache
def _searcher(model: str) -> AtlasSearcher:
    try:
        return AtlasSearcher(find_atlas(model))
    except NotAligned:
        check_known(model)  # a name that is mistyped needs no alignment
        raise


@lru_cache(maxsize=1)
def _clip(clip_id: str) -> Clip:
    return load_clip_of(clip_id)


def _inputs(target: TargetModel, images: Iterable[Image]) -> torch.Tensor:
    return torch.stack([target.preprocess(pixels) for pixels in _decoded(images)])


def _decoded(images: Iterable[Image]) -> list[torch.Tensor]:
    return [decode_image(image, field=f"images[{place}]") for place, image in enumerate(read_images(images))]


def _one_of(value: str, allowed: Sequence[str], option: str) -> str:
    if value not in allowed:
        names = ", ".join(allowed)
        raise InvalidInput(f"{option}: {value!r} is not one of {names}.", field=option, allowed=names)
    return value
