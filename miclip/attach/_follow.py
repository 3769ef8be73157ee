"""The thread that follows a server's policies, and what is known of how fresh they are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from miclip.attach._followed import FollowedPolicies
from miclip.client import MiclipClient, PolicyStream
from miclip.client.connection import pause_s
from miclip.client.watch import SILENCES
from miclip.errors import BadArtefact, MiclipError, NotReady, Overloaded

_JOIN_S = 5.0

log = logging.getLogger("miclip.attach")


class Follower:
    """Keeps ``followed`` up to date: a stream that breaks is opened again, soon at first, then every few seconds.

    Args:
        client: Calls the server.
        model: Id of the model.
        followed: Takes the messages in.
        verify: Called whenever the server was reached anew; raises BadArtefact where it serves another model.
    """

    def __init__(
        self, client: MiclipClient, model: str, followed: FollowedPolicies, verify: Callable[[], None]
    ) -> None:
        self._client, self._model, self._followed, self._verify = (
            client.with_options(attempts=1),
            model,
            followed,
            verify,
        )
        self._closed, self._answered = threading.Event(), threading.Event()
        self._stream: PolicyStream | None = None
        self._failures, self._silence_s, self._server_stale = 0, float("inf"), False
        self._heard = self._confirmed = time.monotonic()
        self._warned, self._verified = False, True
        self._error: MiclipError = NotReady("The server did not say in time what policies there are; try again.")
        self.mismatch: BadArtefact | None = None
        """Why the policies must not be applied any more; None where they may."""
        self._thread = threading.Thread(target=self._run, name=f"miclip-attach-{model}", daemon=True)

    def start(self, timeout_s: float) -> None:
        """Begin; return when all there is is known.

        Raises:
            NotReady: the server was not reached within ``timeout_s``.
            MiclipError: it refuses.
        """
        self._thread.start()
        self._answered.wait(timeout_s)
        if not self._followed.whole:
            self.close()
            raise self._error

    def close(self) -> None:
        """End the thread and wait for it; more than once is no error."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    @property
    def stale(self) -> bool:
        """Whether changes are not seen now: the server, or its store, cannot be reached."""
        return self._failures > 1 or self._server_stale or time.monotonic() - self._heard > self._silence_s

    @property
    def age_s(self) -> float:
        """Seconds since the policies were last known to be the newest."""
        return time.monotonic() - self._confirmed

    def _run(self) -> None:
        token = ""
        while not self._closed.is_set():
            stream = self._stream = self._client.watch_policies(self._model, resume_token=token)
            if self._closed.is_set():  # close() may have seen the stream before
                return
            try:
                for message in stream:
                    self._followed.take(message)
                    token = stream.resume_token
                    self._note_message(message.stale, message.heartbeat_seconds)
                pause = 0.0
            except MiclipError as error:
                pause = self._lost(error)
            except Exception as error:
                log.exception("following the policies failed; starting anew")
                token, pause = "", self._lost(NotReady(str(error)))
            finally:
                stream.close()
            self._closed.wait(pause)

    def _note_message(self, stale: bool, heartbeat_s: float) -> None:
        """Note that a message came."""
        self._verified = self._verified and not self._failures
        self._heard, self._silence_s = time.monotonic(), heartbeat_s * SILENCES
        self._failures, self._server_stale = 0, stale
        if self._followed.whole:
            self._answered.set()
        if not self._verified:
            self._verify_again()
        if stale:
            self._warn("its server cannot reach its store.")
            return
        self._confirmed = self._heard
        if self._warned:
            self._warned = False
            log.info("policies of %s are fresh again", self._model)

    def _verify_again(self) -> None:
        try:
            self._verify()
        except BadArtefact as error:
            self._verified, self.mismatch = True, error
            log.error("policies of %s are not applied any more: %s", self._model, error.message)
        except MiclipError:
            return  # asked again with the next message
        else:
            self._verified, self.mismatch = True, None

    def _lost(self, error: MiclipError) -> float:
        """Note that the stream broke; return how many seconds to wait before the next."""
        if self._closed.is_set():
            return 0.0
        self._failures, self._error = self._failures + 1, error
        if self._failures > 1 and self._followed.whole:
            self._warn(error.message)
        if not isinstance(error, NotReady):
            self._answered.set()
        return error.retry_after if isinstance(error, Overloaded) else pause_s(self._failures)

    def _warn(self, why: str) -> None:
        """Say once, until they are fresh again, that the policies are not."""
        if not self._warned:
            self._warned = True
            log.warning("policies of %s are stale, the last ones known stay in force: %s", self._model, why)
