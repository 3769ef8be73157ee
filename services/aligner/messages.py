"""Alignments and atlases between protos and values; what an alignment request may ask for."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from miclip.atlas import AtlasManifest, locate_atlas, read_manifest
from miclip.bundles import bundle_of_model
from miclip.errors import BadArtefact, InvalidInput, NotFound
from miclip.names import LayerName, ModelName
from miclip.settings import Settings
from miclip.v1 import aligner_pb2 as pb
from miclip.v1 import resources_pb2
from miclip.wire.common import write_kind
from miclip.wire.promise import write_promise, write_verdict
from miclip.wire.times import write_time
from services.aligner.jobs import AlignmentChoices, Job, JobSpec
from services.aligner.worker import probe_set_names
from services.rpc import check_range
from services.wire.layers import layers_of

_MAX_STEPS: Final = 100_000
_MAX_WEIGHT: Final = 100.0
_LOWEST_TEMPERATURE: Final = 1e-3
"""Far below it the loss is no float any more."""


def new_spec(
    request: pb.CreateAlignmentRequest, model: ModelName, layers: Sequence[str], active: str, config: Settings,
    key_id: str,
) -> JobSpec:  # fmt: skip
    """Check a request and fill in its defaults.

    Args:
        request: The request.
        model: Its model, which is known to exist.
        layers: The layers that the model has.
        active: Id of its active atlas; empty without one.
        config: Settings.
        key_id: Id of the caller's API key.

    Raises:
        InvalidInput: a value is out of range, the probe set or the CLIP is unknown, or no probe set is named and the
            model has none of its own.
        NotFound: the model has no such layer.
    """
    return JobSpec(
        job_id=uuid.uuid4().hex[:16],
        model=model.model,
        probe_set=_probe_set(request.probe_set, model.model, active, config),
        clip_id=_clip_id(request.clip),
        layers=_layers(request.layers, model, layers),
        settings=_settings(request.settings),
        activate=request.activate,
        created_at=time.time(),
        created_by=key_id,
    )


def _probe_set(asked: str, model: str, active: str, config: Settings) -> str:
    """The probe set that is asked for, or the model's own; never the demo's for another model."""
    names = probe_set_names(config)
    allowed = ", ".join(names) or "none yet"
    remedy = 'Add more with MICLIP_PROBE_SETS=\'{"NAME": "PATH"}\' and start the server again.'
    if asked in names:
        return asked
    if asked:
        text = f"probe_set: {asked[:80]!r} is none of {allowed}. {remedy}"
        raise InvalidInput(text, field="probe_set", allowed=allowed)
    bundle = bundle_of_model(model)
    if bundle is not None and bundle.manifest.images is not None:
        return bundle.manifest.images.probe.name
    with suppress(NotFound, BadArtefact):
        earlier = read_manifest(locate_atlas(active)).probe.set if active else ""
        if earlier in config.probe_sets:
            return earlier
    text = (
        f"probe_set: {model} comes with no images; name the probe set to align it on. This server knows {allowed}. "
        f"{remedy} Or align on this machine: miclip align --model {model} --images PATH."
    )
    raise InvalidInput(text, field="probe_set", allowed=allowed)


def _clip_id(asked: str) -> str:
    """The id of the CLIP that is asked for, empty for the default; a request never names a file."""
    from miclip.clips import known_clip_id

    return known_clip_id(asked) if asked else ""


def _layers(names: Sequence[str], model: ModelName, known: Sequence[str]) -> tuple[str, ...]:
    chosen = layers_of(names, model.model, known)
    return tuple(name for name in known if name in chosen) if chosen else tuple(known)


def _settings(given: pb.AlignmentSettings) -> AlignmentChoices:
    from miclip.alignment import EncoderSettings

    default = EncoderSettings()
    steps = given.steps if given.HasField("steps") else default.steps
    output_weight = given.output_weight if given.HasField("output_weight") else default.output_weight
    input_weight = given.input_weight if given.HasField("input_weight") else default.input_weight
    temperature = given.temperature if given.HasField("temperature") else default.temperature
    check_range(steps, "settings.steps", 1, _MAX_STEPS)
    for name, weight in (("output_weight", output_weight), ("input_weight", input_weight)):
        _check_real(weight, f"settings.{name}", "0 to 100", 0 <= weight <= _MAX_WEIGHT)
    _check_real(temperature, "settings.temperature", "0.001 to 1", _LOWEST_TEMPERATURE <= temperature <= 1)
    if output_weight == input_weight == 0:
        text = "settings.output_weight and settings.input_weight are both 0; one must be above."
        raise InvalidInput(text, field="settings.output_weight", allowed="above 0 to 100")
    return AlignmentChoices(
        seed=given.seed,
        steps=steps,
        output_weight=output_weight,
        input_weight=input_weight,
        temperature=temperature,
    )


def _check_real(value: float, field: str, allowed: str, in_range: bool) -> None:
    if not in_range:  # NaN is in no range
        raise InvalidInput(f"{field} is {value:g}; allowed is {allowed}.", field=field, allowed=allowed)


def alignment_message(job: Job) -> pb.Alignment:
    """A job as its proto."""
    spec, progress = job.spec, job.progress
    message = pb.Alignment(
        name=f"alignments/{spec.job_id}",
        model=str(ModelName(spec.model)),
        probe_set=spec.probe_set,
        clip_id=spec.clip_id,
        layers=[str(LayerName(spec.model, layer)) for layer in spec.layers],
        settings=pb.AlignmentSettings(**spec.settings.model_dump()),
        activate=spec.activate,
        state=f"ALIGNMENT_STATE_{job.state}",
        stage=progress.stage,
        done=progress.done,
        total=progress.total,
        position=job.position,
        atlas=f"atlases/{job.atlas}" if job.atlas else "",
        error=job.error,
        create_time=write_time(spec.created_at),
        update_time=write_time(job.updated_at),
    )
    if progress.loss is not None and math.isfinite(progress.loss):
        message.loss = progress.loss
    if progress.eta_seconds is not None:
        message.eta_seconds = progress.eta_seconds
    return message


def atlas_message(atlas_id: str, manifest: AtlasManifest, *, active: bool) -> pb.Atlas:
    """An atlas as its proto."""
    model, probe = manifest.model, manifest.probe
    return pb.Atlas(
        name=f"atlases/{atlas_id}",
        model=str(ModelName(model)),
        weights_sha256=manifest.weights_sha256,
        clip_id=manifest.clip_id,
        clip_dim=manifest.clip_dim,
        probe_set=probe.set,
        probe_images=probe.images,
        probe_views=probe.views,
        probe_sha256=probe.sha256,
        settings=_atlas_settings(manifest),
        layers=[
            pb.AtlasLayer(
                name=str(LayerName(model, layer.name)),
                kind=write_kind(resources_pb2.LayerKind, layer.kind),
                units=layer.units,
                default_embedding=write_kind(resources_pb2.UnitEmbedding, layer.unit_embedding),
                metrics=layer.metrics,
                promise=write_promise(model, layer.name, layer.promise) if layer.promise else None,
            )
            for layer in manifest.layers
        ],
        verdict=write_verdict(manifest.verdict, manifest.keeps_labels) if manifest.verdict else None,
        bytes=sum(file.bytes for file in manifest.files.values()),
        active=active,
        licence=manifest.licence,
    )


def _atlas_settings(manifest: AtlasManifest) -> pb.AlignmentSettings:
    message = pb.AlignmentSettings()
    for field in message.DESCRIPTOR.fields:
        value = manifest.settings.get(field.name)
        if isinstance(value, int | float):
            setattr(message, field.name, value)
    return message
