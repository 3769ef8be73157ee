"""Answers of a running server."""

from __future__ import annotations

from collections.abc import Sequence

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
from miclip.client import MiclipClient
from miclip.client import results as client_results
from miclip.names import UnitName, parse_layer
from miclip.v1.activation_pb2 import Model
from miclip.v1.resources_pb2 import Edit, LayerKind


class RemoteBackend:
    """A server, reached by ``client``."""

    def __init__(self, client: MiclipClient) -> None:
        self._client = client

    def model(self, model: str) -> ModelInfo:
        """Return a model's layers; raises NotFound."""
        return model_info(self._client.get_model(model))

    def describe(
        self, units: Sequence[UnitName], *, vocabulary: str, concepts: Sequence[str], top_k: int, embedding: str
    ) -> list[Description]:
        """Return the concepts of units of one model, in order."""
        result = self._client.describe(
            [str(unit) for unit in units],
            vocabulary="" if concepts else vocabulary,
            concepts=concepts,
            top_k=top_k,
            embedding=embedding or None,
        )
        return [_description(entry, result.provenance.atlas) for entry in result.descriptions]

    def localize(
        self, model: str, texts: Sequence[str], *, layers: Sequence[str], top_k: int, method: str
    ) -> list[Localization]:
        """Return the units of each text, in order."""
        result = self._client.localize(texts, model=model, layers=layers, top_k=top_k, method=method)
        return [
            Localization(
                concept=entry.text,
                model=model,
                method=result.method,
                units=[Located(unit=unit.unit, score=unit.score) for unit in entry.units],
                evidence=evidence_value(entry.evidence) if entry.evidence else None,
                atlas=result.provenance.atlas,
            )
            for entry in result.localizations
        ]

    def predict(self, model: str, image: bytes, *, edits: Sequence[UnitSteer], policy: str, top_k: int) -> Prediction:
        """Classify one image without and with steering."""
        result = self._client.predict(
            [image],
            model=model,
            edits=[edit_message(model, edit) for edit in edits] if edits else None,
            policy=policy,
            include_baseline=True,
            top_k=top_k,
        )
        (answer,) = result.images
        met = result.steering
        return Prediction(
            baseline=_labels(answer.baseline),
            steered=_labels(answer.predictions),
            applied=Applied(outcome=met.outcome, policy=met.policy, fingerprint=met.fingerprint),
        )

    def trace(self, model: str, image: bytes, *, concepts: Sequence[str], top_k: int) -> Trace:
        """Compare one image with concepts at every aligned layer."""
        result = self._client.trace([image], model=model, concepts=concepts, top_k=top_k)
        rows = zip(result.layers, result.scores[0].tolist(), strict=True)
        return Trace(
            layers=[LayerScores(layer=parse_layer(name).layer, scores=scores) for name, scores in rows],
            predictions=_labels(result.predictions[0]),
            atlas=result.provenance.atlas,
        )


def model_info(model: Model) -> ModelInfo:
    """Return what the commands need of a model message."""
    layers = [
        LayerInfo(
            layer=parse_layer(layer.name).layer,
            kind=LayerKind.Name(layer.kind).removeprefix("LAYER_KIND_").lower(),
            units=layer.units,
            aligned=layer.aligned,
        )
        for layer in model.layers
    ]
    return ModelInfo(model=model.name.removeprefix("models/"), layers=layers, atlas=model.atlas)


def edit_message(model: str, edit: UnitSteer) -> Edit:
    """Return the message of an edit."""
    message = Edit(layer=f"models/{model}/layers/{edit.layer}", unit=edit.unit, reconstruct=edit.reconstruct)
    setattr(message, edit.op, edit.value)
    return message


def _description(entry: client_results.UnitDescription, atlas: str) -> Description:
    return Description(
        unit=entry.unit,
        concepts=[Concept(concept=one.text, score=one.score, causal_score=one.causal_score) for one in entry.concepts],
        margin=entry.margin,
        null_percentile=entry.null_percentile,
        abstained=entry.abstained,
        embedding=entry.embedding,
        ranking=entry.ranking,
        contrast=entry.contrast,
        stability=entry.stability,
        atlas=atlas,
    )


def evidence_value(evidence: client_results.Evidence) -> Evidence:
    """Return plain values of how far a localisation is to be trusted."""
    return Evidence(
        relevance=evidence.relevance,
        null_percentile=evidence.null_percentile,
        doubtful=evidence.doubtful,
        labels=[LabelShare(label=label, share=share) for label, share in evidence.labels.items()],
    )


def _labels(predictions: Sequence[client_results.Prediction]) -> list[Label]:
    return [Label(label=one.label, logit=one.logit, probability=one.probability) for one in predictions]
