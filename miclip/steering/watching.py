"""Messages of a watch of policies, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from miclip.steering.changes import PolicyChange
from miclip.steering.policy import Policy
from miclip.steering.stop import Stop


@dataclass(frozen=True)
class PolicySnapshot:
    """A part of all policies and stops at one moment: large states come in several messages.

    Attributes:
        policies: Policies that live, in order of their names; those of the parts before stay.
        stops: Where steering is stopped; all of them in the first part.
        first: Whether this is the first part: what was known before is void.
        last: Whether this is the last part: only now is the state whole.
    """

    policies: tuple[Policy, ...]
    stops: tuple[Stop, ...]
    first: bool
    last: bool


@dataclass(frozen=True)
class WatchMessage:
    """One message of a watch: a snapshot, a change, or (neither) a heartbeat.

    Attributes:
        send_time: When the server sent it, by its clock.
        resume_token: Resumes the watch behind this message; empty in all but the last part of a snapshot.
        heartbeat_seconds: Longest silence in seconds; a stream that is silent for three times as long is dead.
        stale: The server cannot reach its store: what was sent last stays in force, and changes are not seen.
        snapshot: A part of all there is; at the start of a watch, unless it was resumed.
        change: A change. One may come twice after a watch was resumed.
    """

    send_time: datetime
    resume_token: str = ""
    heartbeat_seconds: float = 0.0
    stale: bool = False
    snapshot: PolicySnapshot | None = None
    change: PolicyChange | None = None

    @property
    def event(self) -> str:
        """``snapshot``, ``change`` or ``heartbeat``."""
        return "snapshot" if self.snapshot else "change" if self.change else "heartbeat"
