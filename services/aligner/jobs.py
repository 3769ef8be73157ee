"""Alignment jobs in Redis: what was asked for, how far it is, and who works on it.

A job is a hash; a worker holds a lease on it, a key that expires. A job whose lease has expired is given to a new
worker, so neither a lost worker nor a restarted service leaves one behind. Every step that must not race is one Lua
script.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from miclip.errors import NotFound, Overloaded
from services.state.connection import connect, reachable, script

_ALL: Final = "{miclip}:alignments"
_OPEN: Final = "{miclip}:alignments:open"
_JOB: Final = "{miclip}:alignment:"
_LEASE: Final = ":lease"
_KEPT: Final = 1000  # jobs, the ended ones of which go first


class JobState(StrEnum):
    """Where a job stands; the names are those of the proto's enum."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Beat(StrEnum):
    """What a worker learns when it reports."""

    HELD = "held"
    CANCEL = "cancel"
    LOST = "lost"
    """Another worker has the job, or it has ended: stop."""
    BUSY = "busy"
    """The job is not in the state asked for."""


class AlignmentChoices(BaseModel):
    """The fields of ``miclip.alignment.EncoderSettings`` that a request may set."""

    model_config = ConfigDict(frozen=True)

    seed: int
    steps: int
    output_weight: float
    input_weight: float
    temperature: float


class JobSpec(BaseModel):
    """What was asked for, with every default filled in; never changes."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    model: str
    probe_set: str
    clip_id: str = ""
    """The CLIP to align with; empty is the default."""
    layers: tuple[str, ...]
    settings: AlignmentChoices
    activate: bool
    created_at: float
    """Seconds since the epoch."""
    created_by: str
    """Id of the API key."""


class JobProgress(BaseModel):
    """How far a job is."""

    model_config = ConfigDict(frozen=True)

    stage: str = ""
    done: int = 0
    total: int = 0
    """Steps of the stage."""
    loss: float | None = None
    """Mean training loss of late, in nats."""
    eta_seconds: float | None = None
    """Time left of the whole job; None while unknown."""


class Job(BaseModel):
    """A job at one moment."""

    model_config = ConfigDict(frozen=True)

    spec: JobSpec
    state: JobState
    progress: JobProgress
    atlas: str
    """Id of the atlas; empty until it has succeeded."""
    error: str
    """What went wrong and what to do; empty unless it has failed."""
    updated_at: float
    position: int
    """Jobs that run or wait before it; 0 unless queued."""


class JobStore:
    """The jobs; every method raises NotReady while Redis cannot be reached.

    Args:
        url: Of Redis.
        lease_s: How long a worker may be silent.
    """

    def __init__(self, url: str, lease_s: float) -> None:
        self._redis = connect(url)
        self._lease_ms = int(lease_s * 1e3)
        names = ("create_job", "claim_job", "beat_job", "cancel_job", "count_jobs")
        self._create, self._claim, self._beat, self._cancel, self._count = (script(self._redis, name) for name in names)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def create(self, spec: JobSpec, max_open: int) -> Job:
        """Queue a job; raises Overloaded when ``max_open`` run or wait already."""
        fields = ["spec", spec.model_dump_json(), "state", JobState.QUEUED.value, "updated_at", spec.created_at]
        keys = [_ALL, _OPEN, _JOB + spec.job_id]
        async with reachable():
            made = await self._create(keys=keys, args=[spec.job_id, spec.created_at, max_open, _KEPT, _JOB, *fields])
        if not made:
            raise Overloaded(
                f"{max_open} alignments run or wait already; wait for one to end, or cancel one.",
                retry_after=60.0,
                allowed=f"{max_open} open alignments",
            )
        return await self.get(spec.job_id)

    async def get(self, job_id: str) -> Job:
        """One job; raises NotFound."""
        async with reachable(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(_JOB + job_id).zrank(_OPEN, job_id)
            fields, rank = await pipe.execute()
        if not fields:
            text = f"name: there is no alignments/{job_id}; ListAlignments shows what there is."
            raise NotFound(text, field="name")
        return _job({name.decode(): value.decode() for name, value in fields.items()}, rank)

    async def ids(self) -> list[str]:
        """Ids of all jobs, newest first."""
        async with reachable():
            return [key.decode() for key in await self._redis.zrevrange(_ALL, 0, -1)]

    async def count_by_state(self) -> dict[JobState, int]:
        """Number of kept jobs in every state."""
        async with reachable():
            flat = await self._count(keys=[_ALL], args=[_JOB])
        counts = dict(zip((name.decode() for name in flat[::2]), flat[1::2], strict=True))
        return {state: int(counts.get(state.value, 0)) for state in JobState}

    async def cancel(self, job_id: str) -> Job:
        """End a queued job, ask a running one to end; raises NotFound."""
        async with reachable():
            await self._cancel(keys=[_JOB + job_id, _OPEN], args=[job_id, time.time()])
        return await self.get(job_id)

    async def claim(self, max_running: int, attempts: int) -> tuple[Job, str] | None:
        """Lease the oldest job that no worker has, if fewer than ``max_running`` are leased.

        A job that was cancelled, or started ``attempts`` times in vain, is ended instead.

        Returns:
            The job and the token of its lease.
        """
        token = uuid.uuid4().hex
        lost = (
            f"The worker was lost {attempts} times, perhaps because memory ran out. What it computed is kept: "
            "create the alignment again and it continues."
        )
        args = [_JOB, _LEASE, token, self._lease_ms, max_running, attempts, time.time(), lost]
        async with reachable():
            claimed = await self._claim(keys=[_OPEN], args=args)
        return (await self.get(claimed.decode()), token) if claimed else None

    async def beat(
        self, job_id: str, token: str, fields: Mapping[str, str] | None = None, *, only_in: str = ""
    ) -> Beat:
        """Renew the lease, and write ``fields``, for the holder of ``token``; an ended job's lease goes.

        Args:
            job_id: The job.
            token: What ``claim`` returned.
            fields: What to write: ``state``, ``progress`` (JSON of ``JobProgress``), ``atlas``, ``error``.
            only_in: Do nothing unless the job is in this state.
        """
        return await self._report(job_id, token, self._lease_ms, fields or {}, only_in)

    async def release(self, job_id: str, token: str) -> None:
        """Give the job back, for another worker to claim at once; nothing happens when the token does not hold it."""
        await self._report(job_id, token, 0, {}, "")

    async def _report(self, job_id: str, token: str, lease_ms: int, fields: Mapping[str, str], only_in: str) -> Beat:
        flat: list[str | float] = [part for item in fields.items() for part in item]
        if fields:
            flat += ["updated_at", time.time()]
        keys = [_JOB + job_id, _JOB + job_id + _LEASE, _OPEN]
        async with reachable():
            answer = await self._beat(keys=keys, args=[token, lease_ms, only_in, job_id, *flat])
        return Beat(answer.decode())


def _job(fields: Mapping[str, str], rank: int | None) -> Job:
    state = JobState(fields["state"])
    return Job(
        spec=JobSpec.model_validate_json(fields["spec"]),
        state=state,
        progress=JobProgress.model_validate_json(fields.get("progress", "{}")),
        atlas=fields.get("atlas", ""),
        error=fields.get("error", ""),
        updated_at=float(fields["updated_at"]),
        position=(rank or 0) if state is JobState.QUEUED else 0,
    )
