"""Alerts fire when they should and not before; each has its paragraph of the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "k8s" / "rules" / "miclip.rules.yaml"

pytestmark = pytest.mark.metrics

ACTIVATION = {"namespace": "m", "service": "activation"}
NS = {"namespace": "m"}
Series = dict[str, str]
"""Values of series in promtool's notation, a minute apart: ``0+6x60`` begins at 0 and grows by 6 sixty times."""


def calls(faults: dict[str, int], number: int = 1000) -> Series:
    """A thousand calls a minute for eight hours, some refused."""
    made = {'miclip_rpc_requests_total{namespace="m",service="activation",rpc="Predict",code="OK"}': f"0+{number}x480"}
    for reason, count in {"OVERLOADED": 0, **faults}.items():
        series = f'miclip_rpc_rejected_total{{namespace="m",service="activation",reason="{reason}"}}'
        made[series] = f"0+{count}x480"
    return made


def timed(name: str, labels: str, *buckets: tuple[str, int]) -> Series:
    """A histogram; every bucket with its rise a minute."""
    inside = f'namespace="m",{labels},' if labels else 'namespace="m",'
    made = {f'{name}_bucket{{{inside}le="{le}"}}': f"0+{count}x480" for le, count in buckets}
    return made | {f"{name}_count{{{inside[:-1]}}}": f"0+{buckets[-1][1]}x480"}


def slow(of_a_thousand: int, labels: str) -> Series:
    return timed("miclip_rpc_duration_seconds", labels, ("1.0", 1000 - of_a_thousand), ("+Inf", 1000))


PREDICT, WATCH, PREVIEW = (
    'service="activation",rpc="Predict"',
    'service="activation",rpc="WatchPolicies"',
    'service="activation",rpc="PreviewPolicy"',
)
PROPAGATION, REDIS = "miclip_policy_propagation_seconds", "miclip_redis_command_duration_seconds"
STAGE = "miclip_stage_duration_seconds"


@dataclass(frozen=True)
class Case:
    """What makes an alert fire, what comes close and does not, and when to look."""

    fires: Series
    quiet: Series
    labels: dict[str, str] = field(default_factory=lambda: NS)
    value: str = ""
    at: str = "40m"


CASES = {
    "MiclipServiceDown": Case(
        {
            'miclip_replicas{namespace="m",service="activation",pod="a"}': "1x10 stale",
            'miclip_replicas{namespace="m",service="aligner",pod="a"}': "1x60",
        },
        {
            'miclip_replicas{namespace="m",service="activation",pod="a"}': "1x10 stale",
            'miclip_replicas{namespace="m",service="activation",pod="b"}': "1x60",
        },
        labels=ACTIVATION,
    ),
    "MiclipErrorBudgetBurnsFast": Case(
        calls({"INTERNAL": 10, "NOT_READY": 5}),
        calls({"INTERNAL": 14, "INVALID_INPUT": 500, "UNAUTHENTICATED": 100}),
        labels=ACTIVATION,
        value="1.5%",
        at="90m",
    ),
    "MiclipErrorBudgetBurnsSlowly": Case(
        calls({"DEADLINE_EXCEEDED": 7}), calls({"OVERLOADED": 5}), labels=ACTIVATION, value="0.7%", at="7h"
    ),
    "MiclipCallsSlow": Case(
        slow(15, PREDICT) | calls({}),
        slow(9, PREDICT) | slow(1000, WATCH) | slow(1000, PREVIEW) | calls({}),
        labels=ACTIVATION,
        value="1.5%",
    ),
    "MiclipOverloaded": Case(calls({"OVERLOADED": 20}), calls({"OVERLOADED": 9}), labels=ACTIVATION, value="2%"),
    "MiclipInternalErrors": Case(
        {'miclip_rpc_rejected_total{namespace="m",service="activation",reason="INTERNAL"}': "0x35 1x20"},
        {
            'miclip_rpc_rejected_total{namespace="m",service="activation",reason="INTERNAL"}': "0x5 1x60",
            'miclip_rpc_rejected_total{namespace="m",service="activation",reason="NOT_READY"}': "0+1x60",
        },
        labels=ACTIVATION,
    ),
    "MiclipUnauthenticatedCalls": Case(
        calls({"UNAUTHENTICATED": 120}), calls({"UNAUTHENTICATED": 59}), labels=ACTIVATION, value="2"
    ),
    "MiclipPoliciesStale": Case(
        {'miclip_policies_confirmed_timestamp_seconds{namespace="m",service="activation",pod="a"}': "0+60x10 600x60",
         'miclip_policies_confirmed_timestamp_seconds{namespace="m",service="activation",pod="b"}': "0+60x60"},
        {'miclip_policies_confirmed_timestamp_seconds{namespace="m",service="activation",pod="a"}': "-59+60x60"},
        value="30m 0s",
    ),
    "MiclipPolicyPropagationSlow": Case(
        timed(PROPAGATION, 'service="activation"', ("5.0", 0), ("10.0", 6), ("+Inf", 6)),
        timed(PROPAGATION, 'service="activation"', ("2.5", 0), ("5.0", 6), ("+Inf", 6)),
        value="9.95s",
    ),
    "MiclipSteeringStopped": Case(
        {'miclip_steering_outcomes_total{namespace="m",model="emoji-resnet",outcome="stopped"}': "0+6x60"},
        {'miclip_steering_outcomes_total{namespace="m",model="emoji-resnet",outcome="stopped"}': "0+6x20 120x40",
         'miclip_steering_outcomes_total{namespace="m",model="emoji-resnet",outcome="applied"}': "0+6x60"},
        labels={**NS, "model": "emoji-resnet"},
    ),
    "MiclipRedisErrors": Case(
        {'miclip_redis_errors_total{namespace="m",command="hget"}': "0+1x60"},
        {'miclip_redis_errors_total{namespace="m",command="hget"}': "0+1x20 20x40"},
    ),
    "MiclipRedisSlow": Case(
        timed(REDIS, 'command="hget"', ("0.05", 0), ("0.1", 60), ("+Inf", 60)),
        timed(REDIS, 'command="hget"', ("0.025", 0), ("0.05", 60), ("+Inf", 60)),
        value="99.5ms",
    ),
    "MiclipQueueWaitLong": Case(
        timed(STAGE, 'service="activation",stage="queue"', ("0.5", 0), ("1.0", 60), ("+Inf", 60)),
        timed(STAGE, 'service="activation",stage="queue"', ("0.25", 0), ("0.5", 60), ("+Inf", 60))
        | timed(STAGE, 'service="activation",stage="forward"', ("0.5", 0), ("1.0", 60), ("+Inf", 60)),
        value="975ms",
    ),
    "MiclipGpuMemoryLow": Case(
        {'miclip_gpu_memory_bytes{namespace="m",instance="a",device="0",service="activation",kind="free"}': "4x60",
         'miclip_gpu_memory_bytes{namespace="m",instance="a",device="0",service="activation",kind="total"}': "100x60"},
        {'miclip_gpu_memory_bytes{namespace="m",instance="a",device="0",service="activation",kind="free"}': "6x60",
         'miclip_gpu_memory_bytes{namespace="m",instance="a",device="0",service="activation",kind="total"}': "100x60"},
        labels={**NS, "instance": "a", "device": "0"},
        value="4%",
    ),
    "MiclipIndexRecallLow": Case(
        {'miclip_index_recall{namespace="m",model="vit",index="units",pod="a"}': "0.9x60",
         'miclip_index_recall{namespace="m",model="vit",index="units",pod="b"}': "1x60"},
        {'miclip_index_recall{namespace="m",model="vit",index="units",pod="a"}': "0.96x60"},
        labels={**NS, "model": "vit", "index": "units"},
        value="90%",
    ),
    "MiclipLabelDrift": Case(
        {'miclip_label_similarity{namespace="m",model="vit",pod="a"}': "0.3x60"},
        {'miclip_label_similarity{namespace="m",model="vit",pod="a"}': "0.3x25 0.6x5 0.3x30"},
        labels={**NS, "model": "vit"},
        value="0.30",
    ),
    "MiclipAlignmentsFail": Case(
        {'miclip_alignment_duration_seconds_count{namespace="m",outcome="failed"}': "0x60 1x60"},
        {'miclip_alignment_duration_seconds_count{namespace="m",outcome="failed"}': "0x20 1x100",
         'miclip_alignment_duration_seconds_count{namespace="m",outcome="succeeded"}': "0+1x120"},
        at="90m",
    ),
    "MiclipAlignmentsWait": Case(
        {'miclip_alignments{namespace="m",state="queued"}': "2x60",
         'miclip_alignments{namespace="m",state="running"}': "0x60"},
        {'miclip_alignments{namespace="m",state="queued"}': "2x60",
         'miclip_alignments{namespace="m",state="running"}': "0x30 1x30"},
    ),
    "MiclipVersionsDiffer": Case(
        {'miclip_build_info{namespace="m",version="1",python="3.11",pod="a"}': "1x120",
         'miclip_build_info{namespace="m",version="2",python="3.11",pod="b"}': "1x120"},
        {'miclip_build_info{namespace="m",version="1",python="3.11",pod="a"}': "1x120",
         'miclip_build_info{namespace="m",version="1",python="3.12",pod="b"}': "1x120",
         'miclip_build_info{namespace="other",version="2",python="3.11",pod="c"}': "1x120"},
        value="2",
        at="90m",
    ),
}  # fmt: skip


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def expected(name: str, case: Case) -> dict[str, Any]:
    """The alert with its labels and its texts filled in."""
    rule = alerts()[name]

    def filled(text: str) -> str:
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], text)
        return re.sub(r"\{\{ \$value \| [^}]+ \}\}", case.value, text)

    texts = {key: filled(text) for key, text in rule["annotations"].items()}
    return {"exp_labels": {**rule["labels"], **case.labels}, "exp_annotations": texts}


def promtool(folder: Path, series: Series, at: str, name: str, firing: list[dict[str, Any]]) -> str:
    """What promtool has to complain of when these series should make these alerts fire; nothing when they do."""
    program = shutil.which("promtool")
    assert program, "promtool is not installed; Debian's package prometheus has it"
    wanted = {"eval_time": at, "alertname": name, "exp_alerts": firing}
    test = {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [wanted],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([program, "test", "rules", path], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_alert_has_its_cases() -> None:
    assert alerts().keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert promtool(tmp_path, case.fires, case.at, name, [expected(name, case)]) == ""


@pytest.mark.parametrize("name", CASES)
def test_an_alert_does_not_fire_for_what_only_comes_close(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert promtool(tmp_path, case.quiet, case.at, name, []) == ""


def test_a_server_that_was_never_there_is_down(tmp_path: Path) -> None:
    rule = alerts()["MiclipServiceDown"]
    texts = rule["annotations"] | {"summary": "No replica of  runs"}
    firing = [{"exp_labels": rule["labels"], "exp_annotations": texts}]
    assert promtool(tmp_path, {'up{job="miclip"}': "1x60"}, "40m", "MiclipServiceDown", firing) == ""


def test_few_calls_page_nobody(tmp_path: Path) -> None:
    one_failed = {
        'miclip_rpc_requests_total{namespace="m",service="activation",rpc="Predict",code="OK"}': "0x30 1x60",
        'miclip_rpc_rejected_total{namespace="m",service="activation",reason="NOT_READY"}': "0x30 1x60",
    }
    assert promtool(tmp_path, one_failed, "33m", "MiclipErrorBudgetBurnsFast", []) == ""


@pytest.mark.parametrize("name", CASES)
def test_an_alert_links_to_its_paragraph_of_the_runbook(name: str) -> None:
    kebab = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
    page, _, anchor = alerts()[name]["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == ("docs/operations.md", f"alert-{kebab}")
    assert anchor in anchors((ROOT / page).read_text())


def anchors(page: str) -> set[str]:
    """Anchors of a page of Markdown: those written out, and those of its headings."""
    headings = re.findall(r"^#+ +(.+?) *$", page, flags=re.M)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a (?:id|name)="([^"]+)"', page))


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    program = shutil.which("promtool")
    assert program, "promtool is not installed; Debian's package prometheus has it"
    done = subprocess.run(
        [program, "check", "rules", "--lint=all", "--lint-fatal", RULES],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operator_gets_the_same_rules() -> None:
    resource = yaml.safe_load((RULES.parent / "prometheusrule.yaml").read_text())
    assert resource["spec"] == yaml.safe_load(RULES.read_text())
