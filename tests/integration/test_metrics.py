"""What Prometheus reads of a server that works: every series, no secret, no unbounded label."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from miclip.v1 import activation_pb2
from services.metrics.series import LABELS, SERIES, Series
from tests.names import RESNET_NAME as MODEL
from tests.waiting import wait_until

pytestmark = [pytest.mark.metrics, pytest.mark.slow]

REQUEST_ID = "metrics-test-4711"
CONCEPT = "an otter on roller skates"
GPU_ONLY = {"miclip_gpu_memory_bytes"}
CONDITIONAL = {*GPU_ONLY, "miclip_label_similarity"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


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


def test_counters_count_what_was_done(worked: Any, wire: Any, load: Callable[[Any], None]) -> None:
    before = samples(scrape(worked))
    load(wire)
    late = (("miclip_policy_propagation_seconds_count", {}), ("miclip_policy_changes_total", {"action": "delete"}))

    def arrived() -> Any:
        now = samples(scrape(worked))
        return now if all(total(now, name, **labels) > total(before, name, **labels) for name, labels in late) else None

    after = wait_until(arrived)

    def rise(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert rise("miclip_rpc_requests_total", rpc="Predict", code="OK") == 9
    assert rise("miclip_rpc_requests_total", rpc="GetModel", code="NOT_FOUND") == 1
    assert rise("miclip_rpc_rejected_total", service="activation", reason="NOT_FOUND") == 1
    assert rise("miclip_rpc_duration_seconds_count", rpc="Predict") == 9
    for stage in ("decode", "preprocess"):
        assert rise("miclip_stage_duration_seconds_count", service="activation", stage=stage) == 36, stage
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
    assert rise("miclip_localizations_total", model="emoji-resnet", evidence="doubtful") == 1, "of no picture"
    assert (
        rise("miclip_policy_changes_total", action="create")
        == rise("miclip_policy_changes_total", action="delete")
        == 1
    )
    assert rise("miclip_policy_propagation_seconds_count") >= 1
    assert rise("miclip_redis_command_duration_seconds_count") > 0


def test_gauges_say_what_is(worked: Any, wire: Any) -> None:
    wait_until(lambda: total(samples(scrape(worked)), "miclip_alignments", state="succeeded"))  # counted now and then
    found, now = samples(scrape(worked)), time.time()
    for service in ("activation", "aligner", "retrieval", "steering"):
        assert total(found, "miclip_replicas", service=service) == 1
        assert total(found, "miclip_rpc_in_flight", service=service) == 0
    assert total(found, "miclip_build_info") == 1, "the same of every process"
    assert total(found, "miclip_policies_stale") == 0
    for service in ("activation", "steering"):
        confirmed = total(found, "miclip_policies_confirmed_timestamp_seconds", service=service)
        assert 0 <= now - confirmed < 10
    assert total(found, "miclip_policy_watchers") == 0
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


def test_prometheus_answers_a_query_for_every_series(
    worked: Any, prometheus: Any, wire: Any, load: Callable[[Any], None]
) -> None:
    query, log = prometheus.query, worked.state_dir / "logs" / "server.log"

    def until(asked: str) -> None:
        wait_until(lambda: query(asked), 60, every_s=0.5, why=lambda: log.read_text()[-2000:])

    until("count_over_time(miclip_replicas[1m]) >= 2")
    load(wire)
    moved = f"sum(rate({sample_name(SERIES[2])}[1m])) > 0"
    until(moved)
    names = set()
    for one in SERIES:
        if one.name in CONDITIONAL:
            continue
        name = sample_name(one)
        text = f"sum({name})" if one.kind == "gauge" else f"sum(rate({name}[1m]))"
        assert len(query(text)) == 1, text
        names.add(name)
    types = {one["metric"]["__name__"] for one in query('{__name__=~"miclip_.+"}')}
    assert names <= types
    share = "sum(miclip_steering_outcomes_total{outcome='applied'}) / sum(miclip_steering_outcomes_total)"
    assert 0 < float(query(share)[0]["value"][1]) < 1
    quantile = "histogram_quantile(0.9, sum by (le) (rate(miclip_rpc_duration_seconds_bucket{rpc='Predict'}[1m])))"
    assert 0 < float(query(quantile)[0]["value"][1]) < 60


def test_the_names_follow_prometheus(worked: Any) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is not installed; Debian's package prometheus has it"
    done = subprocess.run(
        [program, "check", "metrics"], input=scrape(worked), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
