"""OpenTelemetry traces across client, services and stages; off unless MICLIP_OTEL_ENDPOINT says where they go.

    with telemetry.span("retrieval", "search"):
        ...

Spans are children of the span around them, in threads too where the context is copied. Between processes the W3C
headers of ``carrier`` go along. Names and attributes hold what metrics' labels may hold, and the request id.

OpenTelemetry's own variables work as everywhere: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_*, …
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from miclip.settings import settings

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

Kind = Literal["internal", "client", "server"]


def enabled() -> bool:
    """Whether spans are made."""
    return bool(settings().otel_endpoint)


@contextlib.contextmanager
def span(
    service: str,
    name: str,
    kind: Kind = "internal",
    *,
    parent: Mapping[str, str] | None = None,
    links: Sequence[SpanContext] = (),
    current: bool = True,
    **attributes: str | int | float | bool,
) -> Iterator[Span | None]:
    """Make a span around a block; nothing is made, and None given, while traces are off.

    Args:
        service: Whose span it is; ``service.name`` is this after ``miclip-``.
        name: Of the span.
        kind: On which side of a call it is.
        parent: Headers that came with the call; default the span around this block.
        links: Spans that this one works for without being their child.
        current: Whether spans within the block become its children. An async generator must say no: it may be resumed
            in another context.
        **attributes: Attributes by name, ``__`` standing for a dot.

    An exception marks the span as failed, without its text.
    """
    if not enabled():
        yield None
        return
    from opentelemetry import trace

    made = _tracer(service).start_span(
        name,
        context=_context(parent),
        kind=trace.SpanKind[kind.upper()],
        links=[trace.Link(link) for link in links],
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
    )
    with contextlib.ExitStack() as stack:
        stack.callback(made.end)
        if current:
            stack.enter_context(trace.use_span(made, record_exception=False, set_status_on_exception=False))
        try:
            yield made
        except BaseException as error:
            made.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def record(service: str, name: str, started: float, seconds: float) -> None:
    """Note a child span that has ended.

    Args:
        service: Whose span it is.
        name: Of the span.
        started: ``time.perf_counter()`` at its start.
        seconds: How long it took.
    """
    if enabled():
        begin = time.time_ns() - int((time.perf_counter() - started) * 1e9)
        _tracer(service).start_span(name, start_time=begin).end(begin + int(seconds * 1e9))


def current() -> SpanContext | None:
    """What others need to link to the span around this; None without one, or while traces are off."""
    if not enabled():
        return None
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    return found if found.is_valid else None


def carrier() -> dict[str, str]:
    """The W3C headers of the span around this (``traceparent``, ``tracestate``); empty while traces are off."""
    headers: dict[str, str] = {}
    if enabled():
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def stop() -> None:
    """Send what is made already and close; happens by itself when a process exits."""
    if enabled():
        from miclip import _tracing

        _tracing.stop()


def _tracer(service: str) -> Tracer:
    from miclip import _tracing

    return _tracing.tracer(service, settings().otel_endpoint)


def _context(parent: Mapping[str, str] | None) -> Any:
    """The context of a call's headers, of nothing when there are none; None stands for that around the block."""
    if parent is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(dict(parent), context=Context())
