"""Every limit and default, in one place; each can be set by an environment variable ``MICLIP_<NAME>``."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from miclip.errors import InvalidInput


class Settings(BaseSettings):
    """Settings of the library, the services and the command line."""

    model_config = SettingsConfigDict(env_prefix="MICLIP_", extra="ignore", frozen=True)

    # Where things are
    state_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_state_dir("miclip")))
    """Keys, logs and the run file of a local server."""
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("miclip")))
    """Atlases and activation stores made here."""
    redis_url: str = ""
    """Redis to use, ``redis://host:port/db`` or ``unix:///path``; empty starts an embedded server."""
    bundles: tuple[Path, ...] = (Path(__file__).parent / "demo" / "assets",)
    """Folders of bundles, as JSON: models, atlases, vocabularies and images to offer. See ``miclip.bundles``; the
    default is the one that comes with the package."""
    catalogue: Path | None = None
    """JSON file of further target models, beside those of the bundles. See ``miclip.catalogue``."""
    clip: str = ""
    """OpenCLIP model name of the shared space, for example ``ViT-B-16``; empty means the first bundle's CLIP."""
    clip_weights: str = ""
    """Local weights file of ``clip``, or ``hub:TAG``."""

    # Server
    host: str = "127.0.0.1"
    """Host that clients of a local server dial."""
    grpc_port: int = Field(default=9000, ge=0, le=65535)
    """Port of the gRPC ingress; 0 picks a free one."""
    http_port: int = Field(default=8000, ge=0, le=65535)
    """Port of Serve's HTTP ingress, which answers ``/-/healthz``; 0 picks a free one."""
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    """Port of ``/metrics`` for Prometheus; 0 picks a free one."""
    metrics_host: str = "127.0.0.1"
    """Interface that ``/metrics`` listens on, which needs no key; ``0.0.0.0`` for a Prometheus on another machine."""
    otel_endpoint: str = ""
    """Where OpenTelemetry traces go: ``http://collector:4318`` (OTLP; needs the extra ``otel``), or ``file:///folder``
    for JSON lines, a file for each process; empty makes none."""
    ingress: str = Field(default="haproxy", pattern="^(haproxy|python)$")
    """``haproxy`` (throughput-optimised) or ``python`` (Serve's own proxy)."""
    serve_config: Path | None = None
    """Serve config that a local server deploys instead of its own, YAML; of a RayService its ``serveConfigV2``."""
    endpoint: str = ""
    """Server that the command line calls, ``host:port`` or ``https://host:port``; empty means the local one."""
    api_key: str = ""
    """Key that clients and the command line send; empty means the one ``miclip serve`` made."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    faiss_gpu: bool = False
    """Keep FAISS indices on the GPU (needs the ``gpu`` extra)."""

    # Alignment jobs
    probe_sets: dict[str, Path] = Field(default_factory=dict)
    """Folders, shards, tables or datasets of images by the name that requests give them, as JSON; the bundles' are
    there, too. See ``miclip.probe_sets``."""
    max_running_alignments: int = Field(default=1, ge=1)
    """Alignments that run at a time; more wait in order."""
    alignment_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves for one alignment."""
    alignment_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray reserves for one alignment."""
    alignment_attempts: int = Field(default=3, ge=1)
    """Times that an alignment is started when its worker is lost; each goes on where the one before stopped."""
    alignment_lease_s: float = Field(default=15.0, ge=2)
    """A worker that has not been heard of for so many seconds is taken for lost."""
    held_out_share: float = Field(default=0.125, ge=0, le=0.5)
    """Share of the probe images that an alignment sets aside and stores in the atlas, to measure on; 0 sets none aside,
    nor does a probe set of fewer than 64 images."""
    held_out_images: int = Field(default=256, ge=1)
    """Images that are set aside at most."""
    held_out_bytes: int = Field(default=8 * 2**20, ge=0)
    """Bytes that the held-out images of an atlas may take."""
    thumbnail_edge: int = Field(default=96, ge=16, le=512)
    """Longest edge of a thumbnail in pixels."""
    thumbnail_bytes: int = Field(default=8 * 2**20, ge=0)
    """Bytes that the thumbnails of an atlas may take, those first that most units need; 0 makes none."""

    # Limits, published by GetModel
    max_message_bytes: int = Field(default=32 * 2**20, ge=2**16)
    """Largest gRPC message."""
    max_images: int = Field(default=64, ge=1)
    """Images per request."""
    max_image_bytes: int = Field(default=16 * 2**20, ge=1)
    """Encoded size of one image."""
    max_image_pixels: int = Field(default=32_000_000, ge=1)
    """Width × height of one image, read from its header."""
    max_image_edge: int = Field(default=16_384, ge=1)
    """Longest edge of one image in pixels."""
    max_top_k: int = Field(default=1000, ge=1)
    """Largest top-k of any list."""
    max_units: int = Field(default=1000, ge=1)
    """Units per DescribeUnits or EmbedUnits."""
    max_texts: int = Field(default=256, ge=1)
    """Texts per request."""
    max_text_chars: int = Field(default=512, ge=1)
    """Characters of one text."""
    max_vocabulary: int = Field(default=20_000, ge=1)
    """Concepts of one vocabulary."""
    max_edits: int = Field(default=1024, ge=1)
    """Edits of one request or policy."""
    max_strength: float = Field(default=100.0, gt=0)
    """Largest magnitude of a scale factor."""
    max_offset: float = Field(default=1e4, gt=0)
    """Largest magnitude of an added or clamped value, in units of the activation."""
    max_policies: int = Field(default=1000, ge=1)
    """Policies that may exist at a time."""
    max_vocabularies: int = Field(default=100, ge=1)
    """Vocabularies that users may keep at a time."""
    max_cached_embeddings: int = Field(default=50_000, ge=1)
    """Text embeddings kept in Redis in each of two generations; one of 384 dimensions takes about 1.7 KB."""
    max_open_alignments: int = Field(default=16, ge=1)
    """Alignments that may run or wait at a time."""
    max_page_size: int = Field(default=1000, ge=1)
    """Largest page of a list."""
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Longest time of one unary call in seconds."""
    max_watchers: int = Field(default=100, ge=1)
    """Streams of WatchPolicies of one replica; more are refused as RESOURCE_EXHAUSTED."""
    max_watch_s: float = Field(default=3600.0, gt=0)
    """Longest time of a stream of WatchPolicies in seconds; clients then resume it, maybe at another replica."""
    watch_heartbeat_s: float = Field(default=5.0, ge=0.1)
    """Longest silence of a stream of WatchPolicies in seconds."""
    max_loaded_models: int = Field(default=16, ge=0)
    """Target models that an activation replica keeps loaded; the least recently used leaves for another. 0 is no
    limit."""
    max_loaded_clips: int = Field(default=3, ge=2)
    """CLIP models that an aligner replica keeps loaded, the default one among them; the least recently used of the
    others leaves for another."""
    model_bytes: int = Field(default=0, ge=0)
    """Bytes on the device that the loaded target models of a replica may take together; 0 is no limit but the
    device's memory. Inputs and activations of a batch come on top."""
    max_batch: int = Field(default=32, ge=1)
    """Images in one forward pass of the activation service."""
    batch_wait_s: float = Field(default=0.005, ge=0)
    """Longest wait for batch mates in seconds."""
    drift_interval_s: float = Field(default=0.25, ge=0)
    """Least time between two requests whose images are compared with the probe images, in seconds."""
    max_queued: int = Field(default=256, ge=1)
    """Requests that may wait per service; more are refused as RESOURCE_EXHAUSTED. Streams count apart, as many."""

    # Method defaults (see docs of miclip.alignment and miclip.retrieval)
    temperature: float = Field(default=0.05, gt=0)
    """τ of the attribution store's softmax over the outputs of the model, or over probe images."""
    localize_mechanism: float = Field(default=0.0, ge=0)
    """Weight of the mechanism, cos(E_n(a), query), in the relevance of an output or a probe image to a query; the three
    weights are scaled to sum 1."""
    localize_input: float = Field(default=0.5, ge=0)
    """Weight of the images, cos(E_i(x), query), in the same."""
    localize_output: float = Field(default=0.5, ge=0)
    """Weight of the label's text, cos(E_c(label), query), in the same."""
    localize_unnamed: float = Field(default=2.5, gt=0)
    """What the relevance of an output without a known name is multiplied by: it has no text, and CLIP's images are
    less like a text than texts are."""
    localize_rows: int = Field(default=512, ge=1)
    """Probe rows that a localisation gathers first; more when they carry less than ``localize_mass`` of the softmax."""
    localize_max_rows: int = Field(default=8192, ge=1)
    """Probe rows that a localisation gathers at most; an atlas of no more rows is weighed whole, without a search."""
    localize_mass: float = Field(default=0.99, gt=0, le=1)
    """Share of the softmax's weight that the gathered rows should carry."""
    attribution_points: int = Field(default=1, ge=1, le=64)
    """Points at which an alignment takes the gradient of an attribution; each beyond the first is a pass a layer."""
    output_images: int = Field(default=8, ge=1)
    """Probe images that the effects of an output are the mean of, where fewer are predicted as it."""
    output_passes: int = Field(default=8192, ge=0)
    """Further passes of single images that an alignment may make for such outputs; no more than it has images, or 1,024
    where it has fewer."""
    describe_shortlist: int = Field(default=128, ge=1)
    """Concepts nearest to a unit that are ranked by their causal score."""
    abstain_percentile: float = Field(default=95.0, ge=0, le=100)
    """A label that stands out less than this percentile of random directions abstains."""
    doubt_percentile: float = Field(default=90.0, ge=0, le=100)
    """A localisation is doubtful when the probe images are less relevant to the query than this share of a null."""
    label_precision: float = Field(default=0.85, gt=0, lt=1)
    """Share of kept labels that shall be right on images left out, by the lower end of a one-sided 95 % interval."""
    label_seeds: int = Field(default=5, ge=1, le=5)
    """Encoders trained for each layer; all but the first are there to judge labels. 1 leaves labels unjudged."""
    null_directions: int = Field(default=1000, ge=100)
    """Random directions behind the percentile of a label from a vocabulary other than the model's labels."""

    @property
    def activations_dir(self) -> Path:
        """What alignments and trainings go on with: activation stores, trained encoders, checkpoints.

        One folder for the command line and the service, so that each goes on with what the other has done.
        """
        return self.data_dir / "activations"


@lru_cache
def settings() -> Settings:
    """Return the process's settings, read once from the environment.

    Raises:
        InvalidInput: a variable cannot be read; the text names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        name, given = ".".join(map(str, wrong["loc"])), str(wrong["input"])[:80]
        raise _unreadable(name, f"is {given!r}: {wrong['msg'].lower()}") from None
    except SettingsError as error:
        (name,) = re.findall(r'field "(\w+)"', str(error))[:1] or ("settings",)
        raise _unreadable(name, "is not JSON") from None


def _unreadable(name: str, why: str) -> InvalidInput:
    variable = f"MICLIP_{name.partition('.')[0].upper()}"
    return InvalidInput(f"The environment variable {variable} {why}. Correct or unset it.", field=variable)
