"""Starts the workers of alignment jobs, and looks after them.

Every aligner replica runs one; Redis decides which of them starts a job. A worker that is lost leaves a lease that
expires, and any replica then starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from ray.exceptions import RayError

from miclip.errors import NotReady
from miclip.settings import Settings
from services.aligner.jobs import JobSpec, JobState, JobStore

_POLL_S = 1.0

log = logging.getLogger("miclip")


class AlignmentQueue:
    """Turns queued jobs into Ray tasks.

    Args:
        jobs: The jobs.
        config: How many may run, and on what.
    """

    def __init__(self, jobs: JobStore, config: Settings) -> None:
        self._jobs, self._config = jobs, config
        self._wake = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    async def run(self) -> None:
        """Start workers as jobs come; runs until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._start_all()
            except NotReady:
                pass  # Redis is away; the jobs are in it
            except Exception:
                log.exception("alignments could not be started")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _POLL_S)

    async def _start_all(self) -> None:
        while claimed := await self._jobs.claim(self._config.max_running_alignments, self._config.alignment_attempts):
            job, token = claimed
            worker = asyncio.create_task(self._follow(job.spec, token, self._submit(job.spec, token)))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def _submit(self, spec: JobSpec, token: str) -> Any:
        import ray

        from services.aligner.worker import run_alignment

        # one task a process: its memory goes with it, and so does its niceness
        task = ray.remote(
            num_cpus=self._config.alignment_cpus, num_gpus=self._config.alignment_gpus, max_retries=0, max_calls=1
        )(run_alignment)
        return task.options(name=f"alignment-{spec.job_id}").remote(spec.model_dump_json(), token)

    async def _follow(self, spec: JobSpec, token: str, task: Any) -> None:
        """Hold the job for its task until that begins to report by itself; give the job back when the task is lost."""
        ended = asyncio.ensure_future(_result(task))
        while not (await asyncio.wait({ended}, timeout=self._config.alignment_lease_s / 5))[0]:
            with contextlib.suppress(NotReady):
                await self._jobs.beat(spec.job_id, token, only_in=JobState.QUEUED)
        if isinstance(error := ended.exception(), RayError):
            log.error("alignment worker lost: %s", type(error).__name__, extra={"fields": {"alignment": spec.job_id}})
        with contextlib.suppress(NotReady):
            await self._jobs.release(spec.job_id, token)
        self.wake()


async def _result(task: Any) -> None:
    await task
