"""Align a target model: probe pass, one encoder per layer, unit embeddings and statistics, written as an atlas."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from miclip.alignment.coordinates import plane
from miclip.alignment.encoder import EncoderSettings, NeuronEncoder, train_encoder
from miclip.alignment.features import sparse_tensors
from miclip.alignment.held_out import Split, set_aside
from miclip.alignment.labels import LayerProbe, judge_labels
from miclip.alignment.probe import ActivationStore, ProbeRecord, ProbeSet
from miclip.alignment.stand_alone import pictures
from miclip.atlas import SCHEMA_VERSION, SHARED, compute_statistics, normalise, null_statistics, write_atlas
from miclip.errors import InvalidInput, MiclipError
from miclip.files import replacing
from miclip.kinds import UnitEmbedding
from miclip.models.clip import Clip
from miclip.models.target import TargetModel
from miclip.progress import Progress, Report, Stage, StageKind, silent
from miclip.row_store import key_of
from miclip.settings import settings

_SEEDS_APART = 1_000_003
"""Between the seeds of one alignment's encoders, so that alignments of neighbouring seeds share none."""


_TRAINING = 2
"""Raised where the training of encoders changes: those that a store keeps of an earlier one are not used."""


class Cancelled(MiclipError):
    """The alignment was cancelled; what it had done stays in its store."""

    status = "CANCELLED"
    reason = "CANCELLED"


@dataclass(frozen=True)
class AlignmentConfig:
    """What is aligned, and how.

    Attributes:
        layers: Layers to align; empty means all of the model's.
        encoder: Settings of the encoders.
        probe_rows: Probe rows kept in the atlas for localisation, evenly spread; 0 keeps all.
        text_template: Wraps a label for the CLIP text tower.
        points: Points at which the gradient of an attribution is taken: see ``miclip.models.attribution``.
        stands_alone: Whether images are set aside and the atlas gets pictures and coordinates. Measurements of the
            method, which have images of their own, do without.
    """

    layers: tuple[str, ...] = ()
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    probe_rows: int = 0
    text_template: str = "{}"
    points: int = field(default_factory=lambda: settings().attribution_points)
    stands_alone: bool = True


def align_model(
    model: TargetModel,
    clip: Clip,
    probe: ProbeSet,
    config: AlignmentConfig,
    *,
    store: Path,
    atlas_root: Path,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> str:
    """Align ``model`` and write its atlas; a stopped run goes on where it stopped.

    Args:
        model: The target model.
        clip: The CLIP model whose space the units are put in.
        probe: Images to align on.
        config: See :class:`AlignmentConfig`.
        store: Directory of activation stores and trained encoders.
        atlas_root: Directory that receives the atlas.
        report: Told of progress: activations, then encoder and labels of each layer, then the atlas.
        cancelled: Asked between steps; once true, the run stops.

    Returns:
        The id of the atlas: the SHA-256 of its manifest.

    Raises:
        InvalidInput: a layer is unknown.
        Cancelled: ``cancelled`` became true.
    """
    layers = _layers(model, config)
    split = set_aside(probe, model.labels, settings()) if config.stands_alone else Split(probe, probe, ())
    probe = split.aligning
    activation_store = ActivationStore(store, model, clip, probe, layers, config.points)
    activation_store.fill(report, cancelled)
    _stop_if(cancelled)
    record = activation_store.read()
    labels = clip.embed_texts([config.text_template.format(label) for label in model.labels])
    rows, images = _kept_rows(probe, config.probe_rows), len(probe.names) // probe.views
    run = _Run(activation_store.directory, config, report, cancelled)
    tensors: dict[str, dict[str, NDArray[Any]]] = {}
    manifest_layers = []
    for name in layers:
        _stop_if(cancelled)
        layer = model.layers[name]
        layer_probe = _layer_probe(record, model, name, labels, rows, images)
        tensors[name], metrics = run.layer(layer.base, layer_probe)
        entry = {"name": name, "kind": str(layer.kind), "units": layer.units,
                 "unit_embedding": layer_probe.kind, "metrics": metrics}  # fmt: skip
        if sae := model.dictionaries.get(name):
            entry["dictionary"] = {"sha256": sae.sha256, "quality": sae.quality}
            entry["nonzero"] = len(tensors[name]["features"])
        manifest_layers.append(entry)
    report(Progress(Stage(StageKind.ATLAS), 0, 1))
    shared = {
        "image_embeddings": np.asarray(record.image_embeddings[rows]),
        "predicted": record.logits.argmax(axis=1).astype(np.int32)[rows],
        "label_embeddings": labels.astype(np.float32),
    }
    entries, stored = pictures(model, split, rows, tensors, settings(), report) if config.stands_alone else ({}, {})
    manifest = {
        "schema_version": SCHEMA_VERSION, "model": model.name, "weights_sha256": model.weights_sha256,
        "clip_id": clip.clip_id, "clip_dim": clip.dim, "labels": list(model.labels), "layers": manifest_layers,
        "probe": {"set": probe.name, "images": images, "views": len(rows),
                  "sha256": split.whole.sha256}, "pictures": entries,
        "settings": {**dataclasses.asdict(config.encoder), "text_template": config.text_template,
                     "attribution_points": config.points, "probe_rows": len(rows), **_label_settings()},
        "licence": probe.licence,
    }  # fmt: skip
    atlas_id = write_atlas(
        atlas_root, manifest, {SHARED: shared, **tensors}, [probe.names[row] for row in rows], stored
    )
    report(Progress(Stage(StageKind.ATLAS), 1, 1))
    return atlas_id


def default_embedding(kind: str) -> UnitEmbedding:
    """Return the unit embedding that describes a layer of ``kind`` best (chosen on the validation style)."""
    return "filter" if kind == "logits" else "causal"


def _layers(model: TargetModel, config: AlignmentConfig) -> tuple[str, ...]:
    unknown = [name for name in config.layers if name not in model.layers]
    if unknown:
        allowed = ", ".join(model.layers)
        raise InvalidInput(f"layers: {unknown[0]!r} is not a layer of {model.name}; it has {allowed}.",
                           field="layers", allowed=allowed)  # fmt: skip
    wanted = config.layers or tuple(model.layers)
    bases = {model.layers[name].base for name in wanted}  # features are read through their layer's encoder
    return tuple(name for name in model.layers if name in wanted or name in bases)


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("The alignment was cancelled; start it again with the same inputs and it goes on.")


@dataclass(frozen=True)
class _Run:
    """One alignment: its store, its settings, who is told, and who may stop it."""

    store: Path
    config: AlignmentConfig
    report: Report
    cancelled: Callable[[], bool]

    def layer(self, name: str, probe: LayerProbe) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
        """Return the tensors and metrics of a layer, or of features, whose encoder is that of their base ``name``."""
        encoder = self._encoder(name, probe, 0)
        tensors = _layer_tensors(probe, encoder, self.config)
        judged, metrics = judge_labels(probe, partial(self._encoder, name), self.config.encoder.seed)
        return {**tensors, **judged}, {"final_loss": round(encoder.loss, 6), **metrics}

    def _encoder(self, name: str, probe: LayerProbe, number: int) -> NeuronEncoder:
        """Train the layer's encoder of that number, or read the one that an earlier run of the same settings finished.

        Numbers above 0 are those that judge labels; they have seeds of their own.
        """
        _stop_if(self.cancelled)
        chosen = replace(self.config.encoder, seed=self.config.encoder.seed + _SEEDS_APART * number)
        hashes = [hashlib.sha256(array.tobytes()).hexdigest() for array in (probe.texts, probe.sources)]
        path = self.store / f"encoder-{key_of([_TRAINING, dataclasses.asdict(chosen), name, *hashes])}.safetensors"
        if path.exists():
            saved = load_file(path)
            return NeuronEncoder(saved["weight"], saved["centre"], float(saved["loss"][0]))
        encoder = train_encoder(
            probe.read, probe.predicted, probe.texts, np.asarray(probe.images, dtype=np.float32), probe.sources,
            chosen, report=self._reporter(name, number),
        )  # fmt: skip
        with replacing(path) as temporary:
            save_file({"weight": encoder.weight, "centre": encoder.centre, "loss": np.array([encoder.loss])}, temporary)
        return encoder

    def _reporter(self, name: str, number: int) -> Report:
        """Return who is told of an encoder's training; those that judge labels are one stage."""
        further = settings().label_seeds - 1

        def report(now: Progress) -> None:
            if number:
                done, total = (number - 1) * now.total + now.done, further * now.total
                self.report(Progress(Stage(StageKind.LABELS, name), done, total))
            else:
                self.report(replace(now, stage=Stage(StageKind.ENCODER, name)))

        return report


def _layer_probe(
    record: ProbeRecord,
    model: TargetModel,
    name: str,
    labels: NDArray[np.float32],
    rows: NDArray[np.int64],
    images: int,
) -> LayerProbe:
    total, layer, sae = len(record.logits), model.layers[name], model.dictionaries.get(name)
    return LayerProbe(
        default_embedding(str(layer.kind)), np.asarray(record.activations[name]), np.asarray(record.attributions[name]),
        record.image_embeddings, record.logits.argmax(axis=1).astype(np.int64), np.arange(total) % images,
        np.isin(np.arange(total), rows), labels.astype(np.float32),
        base=np.asarray(record.activations[layer.base]) if sae else None,
        directions=sae.W_dec.cpu().numpy() if sae else None,
    )  # fmt: skip


def _layer_tensors(probe: LayerProbe, encoder: NeuronEncoder, config: AlignmentConfig) -> dict[str, NDArray[Any]]:
    embeddings = probe.embeddings(encoder)
    activations, attributions = probe.activations[probe.kept], probe.attributions[probe.kept]
    if probe.base is None:
        own: dict[str, NDArray[Any]] = {"encoder": _half(_unit_scale(encoder.weight)), "centre": encoder.centre,
               "activations": _half(activations), "attributions": _half(attributions)}  # fmt: skip
    else:
        own = {"filter": _half(_unit_scale(embeddings["filter"])), **sparse_tensors(activations, attributions)}
    return {
        **own,
        "pattern": _half(_unit_scale(embeddings["pattern"])),
        "causal": _half(_unit_scale(embeddings["causal"])),
        **compute_statistics(activations, image_ids=probe.sources[probe.kept]),
        **_null(embeddings[probe.kind], probe.texts, config),
        **({"coordinates": plane(normalise(embeddings[probe.kind]))} if config.stands_alone else {}),
    }


def _label_settings() -> dict[str, float]:
    """The settings of the process that labels are ranked and judged by."""
    names = ("localize_mechanism", "localize_input", "localize_output", "describe_shortlist", "abstain_percentile",
             "label_precision", "label_seeds", "null_directions")  # fmt: skip
    return {"localize_temperature": settings().temperature, **{name: getattr(settings(), name) for name in names}}


def _null(
    embedding: NDArray[np.float32], labels: NDArray[np.float32], config: AlignmentConfig
) -> dict[str, NDArray[Any]]:
    """Best label's cosine of random directions of the layer, through the map that the layer's labels come from."""
    norms = np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    directions, seed = settings().null_directions, config.encoder.seed
    return null_statistics((embedding / norms).T, labels, directions, seed, text_mean=labels.mean(axis=0))


def _kept_rows(probe: ProbeSet, kept: int) -> NDArray[np.int64]:
    """Rows that stay in the atlas: whole views (rows are ordered by view), or evenly spread images of the first."""
    total = len(probe.names)
    if not kept or kept >= total:
        return np.arange(total)
    images = total // probe.views
    return np.arange(kept // images * images) if kept >= images else (np.arange(kept) * images) // kept


def _unit_scale(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the whole matrix to unit mean row length: float16 has few digits below 6e-5."""
    return embedding / max(float(np.linalg.norm(embedding, axis=1).mean()), 1e-30)


def _half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    limit = np.finfo(np.float16).max
    return np.clip(values, -limit, limit).astype(np.float16)
