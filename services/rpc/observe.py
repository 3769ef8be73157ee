"""One log line and the series of a call; neither ever holds a key, a text of the request or its data."""

from __future__ import annotations

import json
import logging
import sys
import time

from miclip import telemetry
from services.metrics import series


class JsonFormatter(logging.Formatter):
    """A log record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if span := telemetry.current():
            line["trace_id"] = f"{span.trace_id:032x}"
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def setup_logging(name: str = "miclip") -> logging.Logger:
    """Send the logger ``name`` to stderr as JSON lines, once."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        # not sys.stderr: Serve redirects it into its own log, a thousand lines at a time and each behind a prefix
        handler = logging.StreamHandler(sys.__stderr__)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


class CallObserver:
    """Counts, times and logs the calls of one service; label values come from code, never from a request."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._log = setup_logging()
        self._in_flight = series.RPC_IN_FLIGHT.labels(service)
        series.started(service)

    def in_flight(self, count: int) -> None:
        """Set the number of calls being answered."""
        self._in_flight.set(count)

    def finished(self, rpc: str, code: str, started: float, *, request_id: str, key_id: str) -> None:
        """Record a finished call; ``started`` is ``time.perf_counter()`` at its start."""
        seconds = time.perf_counter() - started
        series.RPC_REQUESTS.labels(self._service, rpc, code).inc()
        series.RPC_SECONDS.labels(self._service, rpc).observe(seconds)
        fields = {"service": self._service, "rpc": rpc, "code": code, "ms": round(seconds * 1e3, 2)}
        self._log.info("call", extra={"fields": {**fields, "request_id": request_id, "key_id": key_id}})

    def rejected(self, reason: str) -> None:
        """Count a call that is not answered; ``reason`` is that of an error class."""
        series.RPC_REJECTED.labels(self._service, reason).inc()

    def unexpected(self, rpc: str, request_id: str) -> None:
        """Log the exception being handled with its stack, under the request id."""
        fields = {"service": self._service, "rpc": rpc, "request_id": request_id}
        self._log.error("unexpected failure", exc_info=True, extra={"fields": fields})
