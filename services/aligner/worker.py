"""The Ray task that runs one alignment, and how it reports.

The work is in ``miclip.alignment``; a thread beside it tells the job store how far it is, renews the lease, and learns
whether to stop. The work itself never waits for Redis, and goes on while Redis is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from miclip.bundles import bundled_probe_sets
from miclip.errors import InvalidInput, MiclipError, NotReady
from miclip.progress import Progress, Stage, StageKind
from miclip.settings import Settings, settings
from services.aligner.eta import Estimate
from services.aligner.jobs import Beat, JobProgress, JobSpec, JobState, JobStore
from services.metrics import series
from services.rpc.observe import setup_logging

if TYPE_CHECKING:
    from miclip.alignment import ProbeSet

_BEAT_S = 0.25
_END_TRIES = 240
_NICENESS = 10  # predictions come first


def probe_set_names(config: Settings) -> list[str]:
    """Names of the probe sets that requests may give."""
    return [*dict.fromkeys([*bundled_probe_sets(), *sorted(config.probe_sets)])]


def run_alignment(spec_json: str, token: str) -> None:
    """Run a claimed job to its end; whatever happens is written into the job. The body of the Ray task.

    Args:
        spec_json: JSON of the ``JobSpec``.
        token: Of the lease.
    """
    log = setup_logging()
    spec, config = JobSpec.model_validate_json(spec_json), settings()
    fields = {"service": "aligner", "alignment": spec.job_id}
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    reporter = Reporter(config, spec, token)
    if not reporter.begin():
        log.info("alignment not ours any more", extra={"fields": fields})
        return
    end: dict[str, str]
    started = time.perf_counter()
    try:
        with reporter.reporting():
            end = {"state": JobState.SUCCEEDED, "atlas": _align(spec, config, reporter)}
    except MiclipError as error:
        end = {"state": JobState.FAILED, "error": error.message}
        if reporter.stopping:
            end = {"state": JobState.CANCELLED}
    except Exception:
        log.exception("alignment failed", extra={"fields": fields})
        end = {
            "state": JobState.FAILED,
            "error": f"Internal error. The server's log has the details under {spec.job_id}.",
        }
    series.ALIGNMENT_SECONDS.labels(end["state"].lower()).observe(time.perf_counter() - started)
    reporter.finish(end)
    log.info("alignment ended", extra={"fields": {**fields, "state": end["state"]}})


def _align(spec: JobSpec, config: Settings, reporter: Reporter) -> str:
    reporter(Progress(Stage(StageKind.LOADING), 0, 1))
    from miclip.alignment import AlignmentConfig, EncoderSettings, align_model
    from miclip.atlas import atlas_root
    from miclip.catalogue import load_target
    from miclip.clips import choose_clip, load_clip_of

    atlas_id = align_model(
        load_target(spec.model, config.device),
        load_clip_of(spec.clip_id, config.device) if spec.clip_id else choose_clip("", config.device),
        load_probe_set(spec.probe_set, config),
        AlignmentConfig(layers=spec.layers, encoder=EncoderSettings(**spec.settings.model_dump())),
        store=config.activations_dir,
        atlas_root=atlas_root(),
        report=reporter,
        cancelled=lambda: reporter.stopping,
    )
    if spec.activate:
        _activate(atlas_id, config)
    return atlas_id


def _activate(atlas_id: str, config: Settings) -> None:
    from services.state.active_atlases import ActiveAtlases

    async def activate() -> None:
        active = ActiveAtlases(config.redis_url)
        try:
            await active.activate(atlas_id)
        finally:
            await active.close()

    asyncio.run(activate())


def load_probe_set(name: str, config: Settings) -> ProbeSet:
    """The images of a probe set by its name; raises InvalidInput naming those there are."""
    if name not in probe_set_names(config):
        allowed = ", ".join(probe_set_names(config))
        raise InvalidInput(f"probe_set: {name[:80]!r} is none of {allowed}.", field="probe_set", allowed=allowed)
    path: Path | None = config.probe_sets.get(name)
    if path is None:
        from miclip.bundles.views import DrawingViews

        return DrawingViews(*bundled_probe_sets()[name])
    from miclip.probe_sets.images import open_images

    try:
        probe = open_images(path)
    except ModuleNotFoundError as error:
        text = f"probe_set: {name} needs {error.name}, which this server lacks. Install miclip[data] where it runs."
        raise InvalidInput(text, field="probe_set") from error
    probe.name = name  # the name that requests give it, not its file's
    return probe


class StepClock:
    """Times the steps of an alignment; one that ends in a failure counts with the time until then."""

    def __init__(self) -> None:
        self._step, self._since = "", 0.0

    def enter(self, step: str) -> None:
        """Begin a step, which ends the one before; ``""`` begins none."""
        if step == self._step:
            return
        now = time.perf_counter()
        if self._step:
            series.ALIGNMENT_STEP_SECONDS.labels(self._step).observe(now - self._since)
        self._step, self._since = step, now


class Reporter:
    """Reports an alignment's progress from a thread of its own; a ``Report``.

    Args:
        config: Settings.
        spec: The job.
        token: Of its lease.
    """

    def __init__(self, config: Settings, spec: JobSpec, token: str) -> None:
        self._config, self._spec, self._token = config, spec, token
        self._progress = JobProgress()
        self._step = StepClock()
        self._estimate = Estimate(len(spec.layers), settings().label_seeds)
        self._stop = threading.Event()
        self._done = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether the work was cancelled, or given to another worker."""
        return self._stop.is_set()

    def __call__(self, now: Progress) -> None:
        """Note progress; raises Cancelled when the work is to stop."""
        if self.stopping:
            from miclip.alignment import Cancelled

            raise Cancelled("The alignment was cancelled.")
        self._step.enter(now.stage.kind)
        self._progress = JobProgress(
            stage=str(now.stage), done=now.done, total=now.total, loss=now.loss,
            eta_seconds=self._estimate.update(now, time.monotonic()),
        )  # fmt: skip

    def begin(self) -> bool:
        """Say that the work begins; False when the job is no longer this worker's."""
        return self._ask({"state": JobState.RUNNING}) in (Beat.HELD, Beat.CANCEL)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Report until the block ends."""
        thread = threading.Thread(target=lambda: asyncio.run(self._report()), name="alignment-reporter", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()
            self._step.enter("")

    def finish(self, end: dict[str, str]) -> None:
        """Write how it ended; waits for Redis for some minutes."""
        with contextlib.suppress(NotReady):
            self._ask({**end, "progress": self._progress.model_copy(update={"eta_seconds": None}).model_dump_json()})

    async def _report(self) -> None:
        jobs, told = JobStore(self._config.redis_url, self._config.alignment_lease_s), JobProgress()
        try:
            while not self._done.is_set():
                now = self._progress
                fields = {"progress": now.model_dump_json()} if now != told else {}
                with contextlib.suppress(NotReady):
                    if await jobs.beat(self._spec.job_id, self._token, fields) is not Beat.HELD:
                        self._stop.set()
                    told = now
                await asyncio.sleep(_BEAT_S)
        finally:
            await jobs.close()

    def _ask(self, fields: dict[str, str]) -> Beat:
        async def ask() -> Beat:
            jobs = JobStore(self._config.redis_url, self._config.alignment_lease_s)
            try:
                for _ in range(_END_TRIES - 1):
                    with contextlib.suppress(NotReady):
                        return await jobs.beat(self._spec.job_id, self._token, fields)
                    await asyncio.sleep(1)
                return await jobs.beat(self._spec.job_id, self._token, fields)
            finally:
                await jobs.close()

        return asyncio.run(ask())
