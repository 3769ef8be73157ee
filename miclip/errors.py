"""Every error miclip raises on purpose.

Each class carries the gRPC status it becomes on the wire and a machine-readable reason. The text of an error is safe to
show a client: it says what was wrong, what is allowed and what to do, and never holds a path, a key or a stack.
"""

from __future__ import annotations

from typing import ClassVar, Self

DOMAIN = "miclip.dev"
"""``ErrorInfo.domain`` of every error."""


class MiclipError(Exception):
    """Base of all errors.

    Args:
        message: What was wrong, what is allowed, what to do.
        field: Path of the offending request field, for example ``"images[0]"``; empty when no field is at fault.
        allowed: The allowed range or values in words, for example ``"1 to 1000"``.
    """

    status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", allowed: str = "") -> None:
        super().__init__(message)
        self.message, self.field, self.allowed = message, field, allowed

    def copy(self) -> Self:
        """Return the same error anew; one that is kept and raised again and again would gather tracebacks."""
        return type(self)(self.message, field=self.field, allowed=self.allowed)

    def rename(self, field: str) -> None:
        """Blame the field of another request, in the text too where that begins with the field's name."""
        if self.field and self.message.startswith(self.field):
            self.message = field + self.message.removeprefix(self.field)
            self.args = (self.message,)
        self.field = field


class InvalidInput(MiclipError):
    """A value of the request is malformed or out of range."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_INPUT"


class Unauthenticated(MiclipError):
    """No valid API key came with the call."""

    status = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDenied(MiclipError):
    """The API key lacks the scope of the call."""

    status = "PERMISSION_DENIED"
    reason = "MISSING_SCOPE"


class NotFound(MiclipError):
    """A named resource does not exist."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"


class NotAligned(MiclipError):
    """The model or layer has no atlas yet."""

    status = "FAILED_PRECONDITION"
    reason = "NOT_ALIGNED"


class BadArtefact(MiclipError):
    """An atlas or checkpoint is broken, truncated, swapped, or newer than this program."""

    status = "FAILED_PRECONDITION"
    reason = "BAD_ARTEFACT"


class AlreadyExists(MiclipError):
    """A resource of that name exists."""

    status = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class Conflict(MiclipError):
    """The resource changed since its etag was read."""

    status = "ABORTED"
    reason = "ETAG_MISMATCH"


class Overloaded(MiclipError):
    """Too many requests wait; try again after ``retry_after`` seconds."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after: float = 1.0, field: str = "", allowed: str = "") -> None:
        super().__init__(message, field=field, allowed=allowed)
        self.retry_after = retry_after


class TooLarge(Overloaded):
    """The request holds more than a limit allows; the limit is in the text."""

    reason = "TOO_LARGE"


class NotReady(MiclipError):
    """A service or store cannot be reached right now; the call may be retried."""

    status = "UNAVAILABLE"
    reason = "NOT_READY"


class Unreachable(NotReady):
    """No server answers at the endpoint; raised by clients, never by a server."""

    reason = "UNREACHABLE"


class GoingAway(NotReady):
    """A replica ends a stream because it is to be replaced; another answers at once. No fault of the server."""

    reason = "GOING_AWAY"


class DeadlineExceeded(MiclipError):
    """The call did not finish in its time."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Internal(MiclipError):
    """An unexpected failure; the details are in the server's log under the request id."""
