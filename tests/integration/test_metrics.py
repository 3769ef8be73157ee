"""What Prometheus reads of a server that works: every series, no secret, no unbounded label."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2, steering_pb2
from services.metrics import LABELS, SERIES, Series

pytestmark = [pytest.mark.integration, pytest.mark.metrics, pytest.mark.slow]

MODEL = "models/emoji-resnet"
REQUEST_ID = "metrics-test-4711"
CONCEPT = "an otter on roller skates"
GPU_ONLY = {"miclip_gpu_memory_bytes"}
CONDITIONAL = {*GPU_ONLY, "miclip_label_similarity"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def load(wire: Any, dog: bytes) -> None:
    """A call of every kind that moves a series."""
    layer = f"{MODEL}/layers/layer4"
    edits = resources_pb2.EditList(edits=[resources_pb2.Edit(layer=layer, unit=7, scale=0)])
    policy_id = f"m-{uuid.uuid4().hex[:8]}"
    policy = steering_pb2.Policy(model=MODEL, edits=edits)
    made = wire.call("steering/CreatePolicy", steering_pb2.CreatePolicyRequest(policy_id=policy_id, policy=policy))
    for steering in ({}, {"edits": edits}, {"policy": made.policy.name}):
        for _ in range(3):
            request = activation_pb2.PredictRequest(model=MODEL, images=[dog] * 4, **steering)
            wire.call("activation/Predict", request, metadata=[("request_id", REQUEST_ID)])
    wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=[f"{CONCEPT} {policy_id}"]))
    wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=[f"{CONCEPT} {policy_id}"]))
    wire.call("aligner/EmbedImages", aligner_pb2.EmbedImagesRequest(images=[dog]))
    wire.call("retrieval/LocalizeConcepts", retrieval_pb2.LocalizeConceptsRequest(model=MODEL, texts=[CONCEPT]))
    wire.call("retrieval/DescribeUnits", retrieval_pb2.DescribeUnitsRequest(units=[f"{layer}/units/7"]))
    wire.refusal("activation/GetModel", activation_pb2.GetModelRequest(name="models/no-such-model"))
    wire.call("steering/DeletePolicy", steering_pb2.DeletePolicyRequest(name=made.policy.name))


@pytest.fixture(scope="module")
def worked(server: Any, wire_type: Any, dog: bytes) -> Iterator[Any]:
    """The server after some work, an alignment among it."""
    wire = wire_type(server.grpc_endpoint, server.api_key)
    load(wire, dog)
    align(wire, server.probe_dir)
    yield server
    wire.close()


def align(wire: Any, folder: Path) -> None:
    from PIL import Image

    from miclip.demo.probe import demo_probe

    probe = demo_probe()
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(0, len(probe.names), len(probe.names) // 128):  # the same as other tests put there
        Image.fromarray(probe.load(row, row + 1)[0].permute(1, 2, 0).numpy()).save(folder / f"{row:05d}.png")
    request = aligner_pb2.CreateAlignmentRequest(
        model=MODEL,
        probe_set="small",
        layers=[f"{MODEL}/layers/logits"],
        settings=aligner_pb2.AlignmentSettings(steps=20),
    )
    name = wire.call("aligner/CreateAlignment", request).alignment.name
    end = wire.stream("aligner/WatchAlignment", aligner_pb2.WatchAlignmentRequest(name=name), timeout=240)[-1].alignment
    assert end.state == aligner_pb2.ALIGNMENT_STATE_SUCCEEDED, end.error


def scrape(server: Any) -> str:
    with urllib.request.urlopen(f"http://{server.metrics_endpoint}/metrics", timeout=10) as response:
        return str(response.read().decode())


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def total(found: Samples, name: str, **labels: str) -> float:
    return sum(value for (of, held), value in found.items() if of == name and labels.items() <= dict(held).items())


def sample_name(one: Series) -> str:
    return f"{one.name}_count" if one.kind == "histogram" else one.name


def test_every_series_is_there_and_no_other(worked: Any) -> None:
    defined = {one.name for one in SERIES}
    has_gpu = shutil.which("nvidia-smi") is not None
    assert {one.name for one in SERIES if one.when} == CONDITIONAL
    found = {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in samples(scrape(worked))}
    assert found <= defined
    assert defined - found <= (CONDITIONAL - GPU_ONLY if has_gpu else CONDITIONAL)


def test_each_series_has_its_labels_and_no_other(worked: Any) -> None:
    expected = {one.name: set(one.labels) for one in SERIES}
    for name, labels in samples(scrape(worked)):
        series = re.sub(r"_(bucket|sum|count)$", "", name)
        assert {label for label, _ in labels} - {"le"} == expected[series], name
        assert expected[series] <= LABELS.keys()


def test_counters_count_what_was_done(worked: Any, wire: Any, dog: bytes) -> None:
    before = samples(scrape(worked))
    load(wire, dog)
    time.sleep(2.5)  # the policies reach the replica, the jobs are counted
    after = samples(scrape(worked))

    def rise(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert rise("miclip_rpc_requests_total", rpc="Predict", code="OK") == 9
    assert rise("miclip_rpc_requests_total", rpc="GetModel", code="NOT_FOUND") == 1
    assert rise("miclip_rpc_rejected_total", service="activation", reason="NOT_FOUND") == 1
    assert rise("miclip_rpc_duration_seconds_count", rpc="Predict") == 9
    for stage in ("decode", "preprocess"):
        assert rise("miclip_stage_duration_seconds_count", stage=stage) == 36, stage
    assert rise("miclip_stage_duration_seconds_count", stage="queue") == 9
    assert rise("miclip_batch_rows_sum", model="emoji-resnet") == 36
    assert rise("miclip_batch_rows_count") == rise("miclip_batch_wait_seconds_count") == 9, "one client: no mates"
    assert rise("miclip_steering_outcomes_total", model="emoji-resnet", outcome="applied") == 6
    assert rise("miclip_steering_outcomes_total", model="emoji-resnet", outcome="none") == 3
    assert rise("miclip_embedding_cache_lookups_total", result="miss") == 1
    assert rise("miclip_embedding_cache_lookups_total", result="hit") == 2
    assert rise("miclip_stage_duration_seconds_count", stage="embed_texts") == 1, "what is cached is not embedded"
    assert rise("miclip_stage_duration_seconds_count", stage="embed_images") == 1
    assert rise("miclip_stage_duration_seconds_count", stage="search") == 2
    assert (
        rise("miclip_policy_changes_total", action="create")
        == rise("miclip_policy_changes_total", action="delete")
        == 1
    )
    assert rise("miclip_policy_propagation_seconds_count") >= 1
    assert rise("miclip_redis_command_duration_seconds_count") > 0


def test_gauges_say_what_is(worked: Any, wire: Any) -> None:
    found, now = samples(scrape(worked)), time.time()
    for service in ("activation", "aligner", "retrieval", "steering"):
        assert total(found, "miclip_replicas", service=service) == 1
        assert total(found, "miclip_rpc_in_flight", service=service) == 0
    assert total(found, "miclip_build_info") == 1, "the same of every process"
    assert total(found, "miclip_policies_stale") == 0
    assert 0 <= now - total(found, "miclip_policies_confirmed_timestamp_seconds") < 10
    assert total(found, "miclip_alignments", state="succeeded") >= 1
    assert total(found, "miclip_alignment_duration_seconds_count", outcome="succeeded") >= 1, "its process has ended"
    model = wire.call("activation/GetModel", activation_pb2.GetModelRequest(name=MODEL)).model
    units = sum(layer.units for layer in model.layers if layer.aligned)
    assert total(found, "miclip_index_vectors", model="emoji-resnet") == units
    assert total(found, "miclip_atlas_written_timestamp_seconds", model="emoji-resnet") <= now


def test_no_label_holds_anything_of_a_request(worked: Any) -> None:
    text = scrape(worked)
    for secret in (
        worked.api_key,
        worked.read_key,
        REQUEST_ID,
        CONCEPT,
        "units/",
        "/layers/",
        "policies/",
        "m-",
        "twemoji",
    ):
        assert secret not in text, secret
    assert "no-such-model" not in text
    assert len(text.splitlines()) < 3000


@pytest.fixture(scope="module")
def prometheus(worked: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """A real Prometheus that scrapes the server; called with a query, it gives the result."""
    program = require("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    job = f"- job_name: miclip\n    static_configs: [{{targets: ['{worked.metrics_endpoint}']}}]"
    (folder / "prometheus.yml").write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n  {job}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)

    def query(text: str) -> list[Any]:
        import json

        url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return list(json.load(response)["data"]["result"])

    try:
        wait_until(lambda: query("up == 1"), (folder / "log"))
        yield query
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def require(program: str) -> str:
    """Path of a program of Debian's package prometheus; the test fails where it is missing."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is not installed; Debian's package prometheus has it")
    return found


def wait_until(condition: Callable[[], Any], log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.5)


def test_prometheus_answers_a_query_for_every_series(
    worked: Any, prometheus: Callable[[str], list[Any]], wire: Any, dog: bytes
) -> None:
    wait_until(
        lambda: prometheus("count_over_time(miclip_replicas[1m]) >= 2"), worked.state_dir / "logs" / "server.log"
    )
    load(wire, dog)
    moved = f"sum(rate({sample_name(SERIES[2])}[1m])) > 0"
    wait_until(lambda: prometheus(moved), worked.state_dir / "logs" / "server.log")
    names = set()
    for one in SERIES:
        if one.name in CONDITIONAL:
            continue
        name = sample_name(one)
        query = f"sum({name})" if one.kind == "gauge" else f"sum(rate({name}[1m]))"
        assert len(prometheus(query)) == 1, query
        names.add(name)
    types = {one["metric"]["__name__"] for one in prometheus('{__name__=~"miclip_.+"}')}
    assert names <= types
    share = "sum(miclip_steering_outcomes_total{outcome='applied'}) / sum(miclip_steering_outcomes_total)"
    assert 0 < float(prometheus(share)[0]["value"][1]) < 1
    quantile = "histogram_quantile(0.9, sum by (le) (rate(miclip_rpc_duration_seconds_bucket{rpc='Predict'}[1m])))"
    assert 0 < float(prometheus(quantile)[0]["value"][1]) < 60


def test_the_names_follow_prometheus(worked: Any) -> None:
    program = require("promtool")
    done = subprocess.run(
        [program, "check", "metrics"], input=scrape(worked), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
