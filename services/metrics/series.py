"""Every series that miclip exports, and nothing else: names, labels and meaning in one place.

Names follow Prometheus: base units (seconds, bytes), ``_total`` for what only grows. Label values come from code and
the catalogue, never from a request: no key, request id, unit, policy or image. Each process writes its values into
files of ``PROMETHEUS_MULTIPROC_DIR``, which must be set before Python starts; ``services.metrics.exporter``
adds up the files of a pod.

    from services.metrics import series

    with series.stage("retrieval", "search"):
        ...
    series.BATCH_ROWS.labels("emoji-resnet").observe(8)

``tools/generate_metrics_docs.py`` writes ``docs/metrics.md`` from ``SERIES``.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import miclip
from miclip import telemetry
from miclip.progress import StageKind

REGISTRY = CollectorRegistry()
"""Of this process alone; what Prometheus reads is made by ``services.metrics.exporter``."""
PREFIX = "miclip_"

Mode = Literal["livesum", "livemax", "livemin", "livemostrecent"]

_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STAGE_SECONDS = (0.0001, 0.00025, 0.0005, *_CALL_SECONDS)
_ALIGNMENT_STEPS = (
    StageKind.LOADING,
    StageKind.ACTIVATIONS,
    StageKind.OUTPUTS,
    StageKind.ENCODER,
    StageKind.LABELS,
    StageKind.ATLAS,
)
_JOB_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True)
class Series:
    """One exported series.

    Attributes:
        name: With the ending that a query needs (a histogram adds ``_bucket``, ``_sum`` and ``_count``).
        kind: ``counter``, ``gauge`` or ``histogram``.
        labels: Names of its labels.
        help: What it says.
        merged: How the values of several processes of a pod become one: their sum, the least, the largest, the newest.
        when: What it takes for the series to exist; empty when every server has it.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    merged: str
    when: str


SERIES: list[Series] = []
"""All series, in the order of this file. Each has a label: one without would be 0 in every process from the start."""

LABELS = {
    "service": "`activation`, `aligner`, `retrieval` or `steering`",
    "rpc": "name of the method",
    "code": "gRPC status, `OK` for success",
    "reason": "`ErrorInfo.reason` of the refusal",
    "stage": "activation: `decode` and `preprocess` of one image, `queue` of one request, `compile` (the edits) and "
    "`forward` (which applies them) of one batch; aligner: `decode` (and preprocess) of one image, "
    "`embed_texts` and `embed_images` of up to 64 inputs, "
    "`capture` (waits for activation) and `compare` of one trace; "
    "retrieval, of one request: `words` and `embed` (both wait for the aligner), `search`; "
    "steering, of one request: `resolve` (concept to units), `measure` (a receipt)",
    "model": "id of the catalogue",
    "outcome": "steering: `applied`, `none`, `not_in_share`, `stopped`; alignments: `succeeded`, `failed`, `cancelled`",
    "result": "`hit` or `miss`",
    "evidence": "`trusted`, `doubtful`, or `none` where cosines ranked",
    "command": "Redis command, `pipeline` for several sent together",
    "step": "`loading` (models), `activations` (of the probe images), `encoder` and "
    "`labels` (each once a layer), `atlas` (writing it)",
    "index": "`units` (a unit's neighbours) or `rows` (probe images that a localisation gathers)",
    "state": "state of an alignment, in lower case",
    "action": "`create`, `update`, `delete`, `stop` or `resume`",
    "device": "number of the GPU",
    "kind": "`allocated` and `reserved` by this process, `free` and `total` of the device",
    "version": "of miclip",
    "python": "its version",
    "ray": "its version",
    "torch": "its version",
}
"""What the values of each label are; every one is bounded."""


def _counter(name: str, labels: Sequence[str], text: str) -> Counter:
    SERIES.append(Series(name, "counter", tuple(labels), text, "sum, of ended processes too", ""))
    return Counter(name, text, labels, registry=REGISTRY)


def _histogram(name: str, labels: Sequence[str], text: str, buckets: Sequence[float], when: str = "") -> Histogram:
    SERIES.append(Series(name, "histogram", tuple(labels), text, "sum, of ended processes too", when))
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


def _gauge(name: str, labels: Sequence[str], mode: Mode, text: str, when: str = "") -> Gauge:
    merged = {"livesum": "sum", "livemax": "largest", "livemin": "least", "livemostrecent": "newest"}[mode]
    SERIES.append(Series(name, "gauge", tuple(labels), text, merged, when))
    return Gauge(name, text, labels, multiprocess_mode=mode, registry=REGISTRY)


# Every service

BUILD_INFO = _gauge("miclip_build_info", ("version", "python", "ray", "torch"), "livemax", "Always 1; what is running.")
REPLICAS = _gauge("miclip_replicas", ("service",), "livesum", "Replica processes that run.")
RPC_REQUESTS = _counter(
    "miclip_rpc_requests_total", ("service", "rpc", "code"), "Calls from clients that have ended, by gRPC status."
)
RPC_SECONDS = _histogram(
    "miclip_rpc_duration_seconds", ("service", "rpc"), "Time of a call from a client, refused ones too.", _CALL_SECONDS
)
RPC_IN_FLIGHT = _gauge("miclip_rpc_in_flight", ("service",), "livesum", "Calls from clients being answered now.")
RPC_REJECTED = _counter(
    "miclip_rpc_rejected_total", ("service", "reason"), "Calls from clients that were not answered, by reason."
)
STAGE_SECONDS = _histogram(
    "miclip_stage_duration_seconds", ("service", "stage"), "Time of one stage of the work.", _STAGE_SECONDS
)
REDIS_SECONDS = _histogram(
    "miclip_redis_command_duration_seconds",
    ("command",),
    "Time of a Redis command that succeeded, with the way there and back; waiting reads are left out.",
    _STAGE_SECONDS,
)
REDIS_ERRORS = _counter("miclip_redis_errors_total", ("command",), "Redis commands that failed.")

# Activation

BATCH_ROWS = _histogram("miclip_batch_rows", ("model",), "Rows of a batch: images, twice with a baseline.", _ROWS)
BATCH_WAIT_SECONDS = _histogram(
    "miclip_batch_wait_seconds", ("model",), "Time that a batch was held open for more rows.", _STAGE_SECONDS
)
MODELS_LOADED = _gauge("miclip_models_loaded", ("model",), "livesum", "Replicas that have the model loaded.")
MODEL_EVICTIONS = _counter(
    "miclip_model_evictions_total", ("model",), "Times that a replica dropped the model to make room for another."
)
STEERING_OUTCOMES = _counter(
    "miclip_steering_outcomes_total",
    ("model", "outcome"),
    "Requests by what became of their steering; `applied` by all is the steered share.",
)
POLICIES_ACTIVE = _gauge(
    "miclip_policies_active", ("service",), "livemostrecent", "Policies in force, as the replica knows them."
)
POLICIES_STALE = _gauge(
    "miclip_policies_stale",
    ("service",),
    "livemax",
    "1 while a replica works with policies that it cannot refresh, else 0.",
)
POLICIES_CONFIRMED = _gauge(
    "miclip_policies_confirmed_timestamp_seconds",
    ("service",),
    "livemin",
    "When the replica that is furthest behind last knew its policies to be the newest; their age is time() minus this.",
)
LABEL_SIMILARITY = _gauge(
    "miclip_label_similarity",
    ("model",),
    "livemin",
    "Whether live unsteered images excite the units that the probe images did: 1 as a part of the probe images would, "
    "0 no unit in common. The formula is in `miclip/atlas/drift.py`.",
    when="the model has an active atlas and a replica has sampled 256 images",
)
POLICY_PROPAGATION_SECONDS = _histogram(
    "miclip_policy_propagation_seconds",
    ("service",),
    "Time from the newest change of a policy in Redis to its use by a replica; the two clocks must agree.",
    _CALL_SECONDS,
)
GPU_MEMORY = _gauge(
    "miclip_gpu_memory_bytes",
    ("service", "device", "kind"),
    "livesum",
    "GPU memory; `allocated` and `reserved` add up over replicas, `free` and `total` are given by activation alone.",
    when="a GPU is in use",
)

# Aligner

CACHE_LOOKUPS = _counter(
    "miclip_embedding_cache_lookups_total", ("result",), "Text embeddings looked for in the shared cache."
)
ALIGNMENTS = _gauge(
    "miclip_alignments", ("state",), "livemostrecent", "Alignments that are kept, by state; the same from every pod."
)
ALIGNMENT_SECONDS = _histogram(
    "miclip_alignment_duration_seconds", ("outcome",), "Time of an alignment from its start in a worker.", _JOB_SECONDS
)
ALIGNMENT_STEP_SECONDS = _histogram(
    "miclip_alignment_step_duration_seconds", ("step",), "Time of one step of an alignment.", _JOB_SECONDS
)

# Retrieval

INDEX_VECTORS = _gauge(
    "miclip_index_vectors", ("model",), "livemostrecent", "Unit embeddings of the active atlas in the search index."
)
INDEX_RECALL = _gauge(
    "miclip_index_recall",
    ("model", "index"),
    "livemin",
    "Share of an exhaustive search's results that the index finds, in the layer where it finds least; measured when "
    "the atlas is opened.",
)
ATLAS_WRITTEN = _gauge(
    "miclip_atlas_written_timestamp_seconds",
    ("model",),
    "livemostrecent",
    "When the active atlas was written; its age is time() minus this.",
)
LOCALIZATIONS = _counter(
    "miclip_localizations_total",
    ("model", "evidence"),
    "Queries whose units were looked for; many `doubtful` ones ask for what the probe images do not show.",
)

# Steering

POLICY_CHANGES = _counter("miclip_policy_changes_total", ("action",), "Changes of policies and of the kill switch.")
POLICY_WATCHERS = _gauge(
    "miclip_policy_watchers",
    ("service",),
    "livesum",
    "Streams of WatchPolicies that are open: clients and attached models.",
)

FAULTS = ("OVERLOADED", "INTERNAL", "NOT_READY", "DEADLINE_EXCEEDED", "UNAUTHENTICATED")
"""Reasons of refusals that alerts ask for."""


@contextlib.contextmanager
def stage(service: str, name: str) -> Iterator[None]:
    """Time a stage; one that fails is left out. Where traces are on, it is a span, too."""
    started = time.perf_counter()
    with telemetry.span(service, name):
        yield
    STAGE_SECONDS.labels(service, name).observe(time.perf_counter() - started)


def started(service: str) -> None:
    """Say that a replica of ``service`` runs; series of its service begin at 0, so that their first rise is seen."""
    BUILD_INFO.labels(miclip.__version__, platform.python_version(), _version("ray"), _version("torch")).set(1)
    REPLICAS.labels(service).set(1)
    RPC_IN_FLIGHT.labels(service).set(0)
    for reason in FAULTS:
        RPC_REJECTED.labels(service, reason)
    REDIS_ERRORS.labels("pipeline")
    if service in ("activation", "steering"):
        POLICY_PROPAGATION_SECONDS.labels(service)
    if service == "aligner":
        for result in ("hit", "miss"):
            CACHE_LOOKUPS.labels(result)
        for outcome in ("succeeded", "failed", "cancelled"):
            ALIGNMENT_SECONDS.labels(outcome)
        for step in _ALIGNMENT_STEPS:
            ALIGNMENT_STEP_SECONDS.labels(step)
    if service == "steering":
        for action in ("create", "update", "delete", "stop", "resume"):
            POLICY_CHANGES.labels(action)


def hosts(model: str) -> None:
    """Say that a replica of activation has loaded ``model``, whose counters begin at 0."""
    MODELS_LOADED.labels(model).set(1)
    MODEL_EVICTIONS.labels(model)
    for outcome in ("none", "applied", "not_in_share", "stopped"):
        STEERING_OUTCOMES.labels(model, outcome)


def drops(model: str) -> None:
    """Say that a replica of activation has dropped ``model`` to make room for another."""
    MODELS_LOADED.labels(model).set(0)
    MODEL_EVICTIONS.labels(model).inc()


def watch_gpu(service: str, torch: Any) -> None:
    """Note the memory of every GPU of this process, if there is one; cheap enough for every few seconds."""
    if not torch.cuda.is_available():
        return
    for number in range(torch.cuda.device_count()):
        values = {"allocated": torch.cuda.memory_allocated(number), "reserved": torch.cuda.memory_reserved(number)}
        if service == "activation":
            values["free"], values["total"] = torch.cuda.mem_get_info(number)
        for kind, value in values.items():
            GPU_MEMORY.labels(service, str(number), kind).set(value)


def _version(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "unknown"
