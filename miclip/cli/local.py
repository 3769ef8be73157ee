"""Answers of the library alone, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, cast

import torch

from miclip.atlas import find_atlas
from miclip.catalogue import check_known, load_clip, load_target
from miclip.cli.answers import (
    Applied,
    Concept,
    Description,
    Evidence,
    Label,
    LabelShare,
    LayerInfo,
    LayerScores,
    Localization,
    Located,
    ModelInfo,
    Prediction,
    Trace,
)
from miclip.cli.specs import UnitSteer
from miclip.errors import InvalidInput, NotAligned
from miclip.images import decode_image
from miclip.kinds import LocalizationMethod, UnitEmbedding
from miclip.names import UnitName
from miclip.retrieval.image_trace import layer_scores
from miclip.retrieval.results import Description as Found
from miclip.retrieval.results import Evidence as FoundEvidence
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
from miclip.steering.edits import Edit, Op, compile_edits, fingerprint, validate_edits

if TYPE_CHECKING:
    from miclip.models.clip import Clip

_EMBEDDINGS = ("filter", "pattern", "causal")
_METHODS = ("attribution", *_EMBEDDINGS)


class LocalBackend:
    """The library; loads what an answer needs, once."""

    def model(self, model: str) -> ModelInfo:
        """Return the layers that the model's atlas covers; raises NotAligned."""
        searcher = _searcher(model)
        layers = [
            LayerInfo(layer=entry.name, kind=str(entry.kind), units=entry.units, aligned=True)
            for entry in searcher.atlas.manifest.layers
        ]
        return ModelInfo(model=model, layers=layers, atlas=f"atlases/{searcher.atlas.atlas_id}")

    def describe(
        self, units: Sequence[UnitName], *, vocabulary: str, concepts: Sequence[str], top_k: int, embedding: str
    ) -> list[Description]:
        """Return the concepts of units of one model, in order."""
        kind = cast("UnitEmbedding", _one_of(embedding, _EMBEDDINGS, "--embedding")) if embedding else None
        searcher = _searcher(units[0].model)
        words = self._vocabulary(searcher, vocabulary, concepts)
        answers: dict[UnitName, Description] = {}
        for layer in dict.fromkeys(unit.layer for unit in units):
            mine = [unit for unit in units if unit.layer == layer]
            found = searcher.describe(layer, [unit.unit for unit in mine], words, top_k, kind)
            answers.update({unit: _description(unit, one, searcher) for unit, one in zip(mine, found, strict=True)})
        return [answers[unit] for unit in units]

    def localize(
        self, model: str, texts: Sequence[str], *, layers: Sequence[str], top_k: int, method: str
    ) -> list[Localization]:
        """Return the units of each text, in order."""
        chosen = cast("LocalizationMethod", _one_of(method, _METHODS, "--method"))
        searcher = _searcher(model)
        asked = [check_concept(text, f"CONCEPT[{place}]") for place, text in enumerate(texts)]
        found = searcher.localize(self._embed(searcher)(asked), layers, top_k, method=chosen)
        return [
            Localization(
                concept=text,
                model=model,
                method=method,
                units=[
                    Located(unit=str(UnitName(model, unit.layer, unit.unit)), score=unit.score) for unit in one.units
                ],
                evidence=_evidence(one.evidence) if one.evidence else None,
                atlas=f"atlases/{searcher.atlas.atlas_id}",
            )
            for text, one in zip(asked, found, strict=True)
        ]

    def predict(self, model: str, image: bytes, *, edits: Sequence[UnitSteer], policy: str, top_k: int) -> Prediction:
        """Classify one image without and with steering, in one batch."""
        if policy:
            raise InvalidInput("--steer: policies live in a server; leave out --local to use one.", field="--steer")
        target = load_target(model)
        made = [Edit(edit.layer, edit.unit, Op(edit.op), edit.value, edit.reconstruct) for edit in edits]
        validate_edits(made, target.layer_sizes, field="--steer")
        inputs = target.preprocess(decode_image(image, field="IMAGE"))
        batch = compile_edits([[], made], target.layer_sizes)
        logits = target.forward(torch.stack([inputs, inputs]), edits=batch).logits
        baseline, steered = (_labels(target.labels, row, top_k) for row in logits)
        outcome = "applied" if batch else "none"
        met = Applied(outcome=outcome, policy="", fingerprint=fingerprint(made) if batch else "")
        return Prediction(baseline=baseline, steered=steered, applied=met)

    def trace(self, model: str, image: bytes, *, concepts: Sequence[str], top_k: int) -> Trace:
        """Compare one image with concepts at every aligned layer."""
        target, asked = load_target(model), check_concepts(concepts, field="--against")
        searcher = AtlasSearcher(find_atlas(model, model_weights_sha256=target.weights_sha256))
        names = searcher.atlas.neuron_layers
        found = target.forward(target.preprocess(decode_image(image, field="IMAGE"))[None], capture=names)
        activations = {name: found.activations[name].cpu().numpy() for name in names}
        (scores,) = layer_scores(
            searcher.atlas, activations, searcher.centre(self._embed(searcher)(list(asked)))
        ).tolist()
        return Trace(
            layers=[LayerScores(layer=name, scores=row) for name, row in zip(names, scores, strict=True)],
            predictions=_labels(target.labels, found.logits[0], top_k),
            atlas=f"atlases/{searcher.atlas.atlas_id}",
        )

    def _embed(self, searcher: AtlasSearcher) -> EmbedTexts:
        """Return what embeds texts for searches of an atlas; raises BadArtefact when that is another CLIP model's."""
        searcher.atlas.check_clip(self._clip.clip_id)
        return self._clip.embed_texts

    @cached_property
    def _clip(self) -> Clip:
        return load_clip()

    def _vocabulary(self, searcher: AtlasSearcher, vocabulary: str, concepts: Sequence[str]) -> Vocabulary:
        if concepts:
            return embed_vocabulary("", check_concepts(concepts, field="--concept"), self._embed(searcher))
        if vocabulary == MODEL_LABELS:
            return searcher.labels
        return embed_vocabulary(vocabulary, builtin_concepts(vocabulary), self._embed(searcher))


@cache
def _searcher(model: str) -> AtlasSearcher:
    try:
        return AtlasSearcher(find_atlas(model))
    except NotAligned:
        check_known(model)  # a name that is mistyped needs no alignment
        raise


def _description(unit: UnitName, found: Found, searcher: AtlasSearcher) -> Description:
    return Description(
        unit=str(unit),
        concepts=[
            Concept(concept=one.concept, score=one.score, causal_score=one.causal_score) for one in found.concepts
        ],
        margin=found.margin,
        null_percentile=found.null_percentile,
        abstained=found.abstained,
        embedding=str(found.embedding),
        ranking=found.ranked_by,
        contrast=found.contrast,
        stability=found.stability,
        atlas=f"atlases/{searcher.atlas.atlas_id}",
    )


def _evidence(found: FoundEvidence) -> Evidence:
    return Evidence(
        relevance=found.relevance,
        null_percentile=found.null_percentile,
        doubtful=found.doubtful,
        labels=[LabelShare(label=one.label, share=one.share) for one in found.labels],
    )


def _labels(labels: Sequence[str], logits: torch.Tensor, top_k: int) -> list[Label]:
    probabilities = logits.softmax(dim=0)
    best = logits.topk(min(top_k, len(labels))).indices.tolist()
    return [
        Label(label=labels[index], logit=float(logits[index]), probability=float(probabilities[index]))
        for index in best
    ]


def _one_of(value: str, allowed: Sequence[str], option: str) -> str:
    if value not in allowed:
        names = ", ".join(allowed)
        raise InvalidInput(f"{option}: {value!r} is not one of {names}.", field=option, allowed=names)
    return value
