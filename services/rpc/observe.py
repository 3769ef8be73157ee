"""One log line and three series per call; neither ever holds a key, a text of the request or its data."""

from __future__ import annotations

import json
import logging
import sys
import time

from ray.serve import metrics

_LATENCY_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4]


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
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def setup_logging(name: str = "miclip") -> logging.Logger:
    """Send the logger ``name`` to stderr as JSON lines, once."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
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
        self._calls = metrics.Counter(
            "miclip_rpc_total",
            description="Calls by RPC and status.",
            tag_keys=("rpc", "code"),  # type: ignore[arg-type]  # Ray means tuple[str, ...]
        )
        self._latency = metrics.Histogram(
            "miclip_rpc_ms", description="Time of a call in milliseconds.", boundaries=_LATENCY_MS, tag_keys=("rpc",)
        )
        self._in_flight = metrics.Gauge("miclip_rpc_in_flight", description="Calls being answered now.")

    def in_flight(self, count: int) -> None:
        """Set the number of calls being answered."""
        self._in_flight.set(count)

    def finished(self, rpc: str, code: str, started: float, *, request_id: str, key_id: str) -> None:
        """Record a finished call; ``started`` is ``time.perf_counter()`` at its start."""
        ms = (time.perf_counter() - started) * 1e3
        self._calls.inc(tags={"rpc": rpc, "code": code})
        self._latency.observe(ms, tags={"rpc": rpc})
        fields = {"service": self._service, "rpc": rpc, "code": code, "ms": round(ms, 2)}
        self._log.info("call", extra={"fields": {**fields, "request_id": request_id, "key_id": key_id}})

    def unexpected(self, rpc: str, request_id: str) -> None:
        """Log the exception being handled with its stack, under the request id."""
        fields = {"service": self._service, "rpc": rpc, "request_id": request_id}
        self._log.error("unexpected failure", exc_info=True, extra={"fields": fields})
