"""Makes OpenTelemetry's tracers; imported only where traces are on."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Tracer

from miclip.errors import InvalidInput

_providers: list[TracerProvider] = []


@lru_cache
def tracer(service: str, endpoint: str) -> Tracer:
    """The tracer of a service; raises InvalidInput for an endpoint that is none."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"miclip-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(_exporter(service, endpoint)))
    _providers.append(provider)
    return provider.get_tracer("miclip")


def stop() -> None:
    """Send what is made already and close; tracers made later begin anew."""
    while _providers:
        _providers.pop().shutdown()
    tracer.cache_clear()


class _Lines(ConsoleSpanExporter):
    """Writes spans to a file, a line each."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1)
        super().__init__(out=self._file, formatter=_line)

    def shutdown(self) -> None:
        self._file.close()


def _line(span: ReadableSpan) -> str:
    return span.to_json(indent=None) + "\n"


def _exporter(service: str, endpoint: str) -> SpanExporter:
    address = urlsplit(endpoint)
    if address.scheme == "file":
        return _Lines(Path(unquote(address.path)) / f"{service}-{os.getpid()}.jsonl")
    if address.scheme not in ("http", "https"):
        raise InvalidInput(f"MICLIP_OTEL_ENDPOINT is {endpoint!r}; http://host:4318 or file:///folder is allowed.")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise InvalidInput("Traces to a collector need the extra: pip install 'miclip[otel]'.") from error
    return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
