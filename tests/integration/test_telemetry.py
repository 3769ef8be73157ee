"""One trace from a client through the services that answer, and its id in the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from miclip.client import MiclipClient
from miclip.errors import MiclipError
with MiclipClient(endpoint=sys.argv[1], api_key=sys.argv[2], request_id="traced-4711") as client:
    client.localize("a quokka on stilts", model="emoji-resnet")
    client.predict([sys.argv[3]] * 2, model="emoji-resnet")
    try:
        client.get_model("no-such-model")
    except MiclipError:
        pass
"""


@pytest.fixture(scope="module")
def traced(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """A server with traces on, and the spans of a client's three calls."""
    from miclip.demo.assets import IMAGES

    folder = tmp_path_factory.mktemp("spans")
    told = {"MICLIP_OTEL_ENDPOINT": f"file://{folder}", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with start_server(**told) as server:
        image = str(IMAGES / "twemoji" / "dog.webp")
        arguments = [sys.executable, "-c", PROGRAM, server.grpc_endpoint, server.api_key, image]
        subprocess.run(arguments, env={**os.environ, **told}, check=True, timeout=120)
        time.sleep(2)
        yield server, read(folder)


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]


def find(spans: list[dict[str, Any]], service: str, name: str) -> dict[str, Any]:
    """The only span of a name in the traces that the client began."""
    begun = {one["context"]["trace_id"] for one in spans if service_of(one) == "miclip-client"}
    (found,) = (
        one
        for one in spans
        if one["name"] == name and service_of(one) == f"miclip-{service}" and one["context"]["trace_id"] in begun
    )
    return found


def service_of(span: dict[str, Any]) -> str:
    return str(span["resource"]["attributes"]["service.name"])


def test_a_call_is_one_trace_through_the_services_that_answer_it(traced: tuple[Any, list[dict[str, Any]]]) -> None:
    _, spans = traced
    chain = [
        ("client", "retrieval/LocalizeConcepts"),
        ("retrieval", "LocalizeConcepts"),
        ("retrieval", "embed"),
        ("aligner", "EmbedTexts"),
        ("aligner", "embed_texts"),
    ]
    found = [find(spans, service, name) for service, name in chain]
    for parent, child in pairwise(found):
        assert child["parent_id"] == parent["context"]["span_id"], child["name"]
        assert child["context"]["trace_id"] == parent["context"]["trace_id"]
    assert found[1]["attributes"]["miclip.request_id"] == "traced-4711"
    assert find(spans, "retrieval", "search")["parent_id"] == found[1]["context"]["span_id"]


def test_a_prediction_has_its_stages_and_its_batch(traced: tuple[Any, list[dict[str, Any]]]) -> None:
    _, spans = traced
    answer = find(spans, "activation", "Predict")["context"]
    children = [one["name"] for one in spans if one["parent_id"] == answer["span_id"]]
    assert sorted(children) == ["batches", "decode", "decode", "preprocess", "preprocess", "queue"]
    (batch,) = (one for one in spans if answer["span_id"] in [link["context"]["span_id"] for link in one["links"]])
    assert (batch["name"], batch["attributes"]["rows"]) == ("batch", 2)
    inside = {one["name"] for one in spans if one["parent_id"] == batch["context"]["span_id"]}
    assert inside == {"compile", "forward"}


def test_a_refused_call_has_its_status(traced: tuple[Any, list[dict[str, Any]]]) -> None:
    _, spans = traced
    refused = find(spans, "activation", "GetModel")
    assert refused["attributes"]["rpc.grpc.status_code"] == 5
    assert refused["status"]["status_code"] == "UNSET", "the caller's mistake is no failure of the server"


def test_the_log_names_request_and_trace_and_no_secret(traced: tuple[Any, list[dict[str, Any]]]) -> None:
    server, spans = traced
    logs = [path.read_text() for path in (server.temp_dir / "session_latest" / "logs").glob("worker-*.err")]
    lines = [json.loads(line) for text in logs for line in text.splitlines() if line.startswith('{"time"')]
    (line,) = (one for one in lines if one.get("rpc") == "Predict")
    assert line["request_id"] == "traced-4711"
    assert f"0x{line['trace_id']}" == find(spans, "activation", "Predict")["context"]["trace_id"]
    text = json.dumps(spans)
    assert server.api_key not in text
    assert "quokka" not in text
