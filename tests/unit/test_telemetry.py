"""Traces: nothing while they are off; parents, links and files when they are on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from miclip import telemetry
from miclip.errors import InvalidInput
from miclip.settings import settings


def switch(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    patch.setenv("MICLIP_OTEL_ENDPOINT", endpoint)
    settings.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where spans go while the test runs."""
    switch(monkeypatch, f"file://{tmp_path}/spans")
    yield tmp_path / "spans"
    telemetry.stop()
    switch(monkeypatch, "")


def spans(folder: Path) -> dict[str, dict[str, Any]]:
    telemetry.stop()
    lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return {line["name"]: line for line in lines}


def ids(span: dict[str, Any]) -> tuple[str, str]:
    return span["context"]["trace_id"], span["context"]["span_id"]


def test_nothing_is_made_while_traces_are_off() -> None:
    with telemetry.span("activation", "forward") as span:
        assert span is None
        assert telemetry.current() is None
        assert telemetry.carrier() == {}
    telemetry.record("activation", "queue", 0.0, 1.0)


def test_opentelemetry_is_not_even_imported_while_traces_are_off() -> None:
    code = (
        "import sys; from miclip import telemetry\n"
        "with telemetry.span('a', 'b'): telemetry.record('a', 'c', 0.0, 1.0)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_span_is_the_child_of_the_one_around_it_in_threads_too(folder: Path) -> None:
    def work() -> None:
        with telemetry.span("activation", "decode"):
            pass

    with telemetry.span("activation", "Predict", "server", rpc__method="Predict"):
        thread = threading.Thread(target=copy_context().run, args=(work,))
        thread.start()
        thread.join()
        telemetry.record("activation", "queue", 0.0, 0.5)
    found = spans(folder)
    for child in ("decode", "queue"):
        assert found[child]["parent_id"] == ids(found["Predict"])[1]
        assert ids(found[child])[0] == ids(found["Predict"])[0]
    assert found["Predict"]["attributes"] == {"rpc.method": "Predict"}
    assert found["Predict"]["kind"] == "SpanKind.SERVER"
    assert found["Predict"]["resource"]["attributes"]["service.name"] == "miclip-activation"


def test_headers_carry_the_parent_from_one_process_to_another(folder: Path) -> None:
    with telemetry.span("client", "call", "client"):
        headers = telemetry.carrier()
    assert headers["traceparent"].startswith("00-")
    with telemetry.span("client", "something else"), telemetry.span("retrieval", "answer", "server", parent=headers):
        pass
    found = spans(folder)
    assert found["answer"]["parent_id"] == ids(found["call"])[1]


@pytest.mark.parametrize("headers", [{}, {"traceparent": "rubbish"}, {"traceparent": "00-" + "0" * 32 + "-1-01"}])
def test_a_call_without_usable_headers_begins_a_trace(folder: Path, headers: dict[str, str]) -> None:
    with telemetry.span("retrieval", "around"), telemetry.span("retrieval", "answer", "server", parent=headers):
        pass
    assert spans(folder)["answer"]["parent_id"] is None


def test_a_batch_names_the_requests_in_it(folder: Path) -> None:
    with telemetry.span("activation", "Predict"):
        asked = telemetry.current()
    assert asked is not None
    with telemetry.span("activation", "batch", links=[asked], rows=3):
        pass
    found = spans(folder)
    assert [link["context"]["span_id"] for link in found["batch"]["links"]] == [ids(found["Predict"])[1]]
    assert found["batch"]["attributes"] == {"rows": 3}


def test_a_failure_is_named_by_its_kind_and_not_by_its_text(folder: Path) -> None:
    with pytest.raises(ValueError, match="a secret"), telemetry.span("activation", "forward"):
        raise ValueError("a secret")
    text = json.dumps(spans(folder))
    assert '"ERROR"' in text
    assert "ValueError" in text
    assert "a secret" not in text


def test_an_endpoint_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    switch(monkeypatch, "collector:4318")
    with pytest.raises(InvalidInput, match="http://host:4318"), telemetry.span("activation", "forward"):
        pass
    switch(monkeypatch, "")


def test_a_collector_gets_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        switch(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        with telemetry.span("aligner", "embed_texts"):
            pass
        telemetry.stop()
        server.shutdown()
        thread.join()
    switch(monkeypatch, "")
    ((path, body),) = received
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert resource.scope_spans[0].spans[0].name == "embed_texts"
