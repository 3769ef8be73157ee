"""Alert rules. Each links to its paragraph of docs/operations.md: ``#alert-`` and the alert's name in kebab-case.

The head of k8s/rules/miclip.rules.yaml lists the paragraphs that docs/operations.md must have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from tools.monitoring.objectives import BUDGET, FAST_BURN, RECALL, SIMILARITY, SLOW_BURN, SLOW_SHARE
from tools.monitoring.promql import quantile, rate, select, total
from tools.monitoring.recording import REQUESTS, SLOW, errors

RUNBOOK = "docs/operations.md"
"""Where the runbook is published; an address in place of the path makes the links work from anywhere."""

Severity = Literal["page", "ticket", "info"]


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: In CamelCase, without the prefix ``Miclip``.
        severity: ``page`` wakes somebody, ``ticket`` waits for the morning, ``info`` only shows.
        hold: How long the condition must last.
        expr: The condition.
        summary: What is wrong, in one line.
        description: What it means for users, with the value where one helps.
    """

    name: str
    severity: Severity
    hold: str
    expr: str
    summary: str
    description: str

    @property
    def anchor(self) -> str:
        """Anchor of its paragraph."""
        return "alert-" + re.sub(r"(?<!^)(?=[A-Z])", "-", f"Miclip{self.name}").lower()

    def rule(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {
            "alert": f"Miclip{self.name}",
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOK}#{self.anchor}",
            },
        }


_SERVICE = ("namespace", "service")
_ENOUGH = f"{REQUESTS} > 0.02"  # about one call a minute: a single failure at night is no page
_RUNNING = total("miclip_replicas", *_SERVICE)
_GPU = ("namespace", "instance", "device")


def _burn(long: str, short: str, factor: float) -> str:
    most = f"{factor * BUDGET:g}"
    return f"{errors(long)} > {most}\nand {errors(short)} > {most}\nand {_ENOUGH}"


def _refused(reason: str, window: str) -> str:
    return total(rate(select("miclip_rpc_rejected_total", reason=reason), window), *_SERVICE)


def _gpu(kind: str) -> str:
    return total(select("miclip_gpu_memory_bytes", kind=kind), *_GPU)


ALERTS = (
    Alert(
        "ServiceDown", "page", "2m",
        f"{total('max_over_time(miclip_replicas[1d])', *_SERVICE)} unless {_RUNNING}\nor absent(miclip_replicas)",
        "No replica of {{ $labels.service }} runs",
        "Nobody answers calls to the service; it ran within the last day, or no service runs at all.",
    ),
    Alert(
        "ErrorBudgetBurnsFast", "page", "2m", _burn("1h", "5m", FAST_BURN),
        "{{ $labels.service }} fails {{ $value | humanizePercentage }} of its calls",
        "At this speed the error budget of 30 days is gone in two days; in an hour 2 % of it are.",
    ),
    Alert(
        "ErrorBudgetBurnsSlowly", "ticket", "15m", _burn("6h", "30m", SLOW_BURN),
        "{{ $labels.service }} has failed {{ $value | humanizePercentage }} of its calls for hours",
        "At this speed the error budget of 30 days is gone in five days.",
    ),
    Alert(
        "CallsSlow", "ticket", "15m", f"{SLOW} > {SLOW_SHARE:g}\nand {_ENOUGH}",
        "{{ $value | humanizePercentage }} of the calls to {{ $labels.service }} take over a second",
        "The objective is 1 %. Streams, PreviewPolicy and CreateVocabulary are left out.",
    ),
    Alert(
        "Overloaded", "page", "5m", f"{_refused('OVERLOADED', '5m')} / {REQUESTS} > 0.01",
        "{{ $labels.service }} refuses {{ $value | humanizePercentage }} of its calls as too many",
        "As many calls wait as may (MICLIP_MAX_QUEUED); clients get RESOURCE_EXHAUSTED with a time to wait.",
    ),
    Alert(
        "InternalErrors", "ticket", "0m",
        total(f"increase({select('miclip_rpc_rejected_total', reason='INTERNAL')}[10m])", *_SERVICE) + " > 0",
        "{{ $labels.service }} failed by a mistake of its own",
        "The log has the stack under the request id that the client got.",
    ),
    Alert(
        "UnauthenticatedCalls", "ticket", "10m", f"{_refused('UNAUTHENTICATED', '5m')} > 1",
        "{{ $value | humanize }} calls a second to {{ $labels.service }} come without a valid key",
        "A client has an ended key, or somebody guesses.",
    ),
    Alert(
        "PoliciesStale", "page", "1m",
        "time() - min by (namespace) (miclip_policies_confirmed_timestamp_seconds) > 60",
        "A replica has not confirmed its policies for {{ $value | humanizeDuration }}",
        "It works with the last policies that it knew: changes and the kill switch do not reach it.",
    ),
    Alert(
        "PolicyPropagationSlow", "ticket", "5m",
        quantile(0.99, "miclip_policy_propagation_seconds_bucket", "15m", "namespace") + " > 5",
        "Changes of policies take {{ $value | humanizeDuration }} to reach the replicas",
        "So does the kill switch.",
    ),
    Alert(
        "SteeringStopped", "info", "5m",
        total(rate(select("miclip_steering_outcomes_total", outcome="stopped"), "5m"), "namespace", "model") + " > 0",
        "Steering of {{ $labels.model }} is stopped, and clients ask for it",
        "The kill switch is on: answers come unsteered, and say so.",
    ),
    Alert(
        "RedisErrors", "page", "5m", total(rate("miclip_redis_errors_total", "5m"), "namespace") + " > 0",
        "Commands to Redis fail",
        "Policies cannot be changed, alignments not be started, keys not be read anew; predictions go on.",
    ),
    Alert(
        "RedisSlow", "ticket", "10m",
        quantile(0.99, "miclip_redis_command_duration_seconds_bucket", "5m", "namespace") + " > 0.05",
        "One Redis command in a hundred takes over {{ $value | humanizeDuration }}",
        "Usual is under a millisecond or two within a cluster.",
    ),
    Alert(
        "QueueWaitLong", "ticket", "10m",
        quantile(
            0.95, select("miclip_stage_duration_seconds_bucket", service="activation", stage="queue"), "5m", "namespace"
        ) + " > 0.5",
        "Requests wait {{ $value | humanizeDuration }} for their batch",
        "There are too few activation replicas for the load, or the GPU is slow.",
    ),
    Alert(
        "GpuMemoryLow", "ticket", "10m", f"{_gpu('free')} / {_gpu('total')} < 0.05",
        "GPU {{ $labels.device }} of {{ $labels.instance }} has {{ $value | humanizePercentage }} of its memory left",
        "The next larger batch or model may not fit.",
    ),
    Alert(
        "IndexRecallLow", "ticket", "5m", f"min by (namespace, model, index) (miclip_index_recall) < {RECALL:g}",
        "The index of {{ $labels.index }} of {{ $labels.model }} finds {{ $value | humanizePercentage }}",
        "An exhaustive search would rank other units or images among the best.",
    ),
    Alert(
        "LabelDrift", "ticket", "30m", f"min by (namespace, model) (miclip_label_similarity) < {SIMILARITY:g}",
        "Live images excite other units of {{ $labels.model }} than its probe images did",
        "The similarity is {{ $value | printf \"%.2f\" }} of 1: labels were not learnt from images like these.",
    ),
    Alert(
        "AlignmentsFail", "ticket", "0m",
        total(f"increase({select('miclip_alignment_duration_seconds_count', outcome='failed')}[1h])", "namespace")
        + " > 0",
        "An alignment failed within the last hour",
        "GetAlignment says why.",
    ),
    Alert(
        "AlignmentsWait", "ticket", "15m",
        'max by (namespace) (miclip_alignments{state="queued"}) > 0\n'
        'and max by (namespace) (miclip_alignments{state="running"}) == 0',
        "Alignments wait, and none runs",
        "No worker takes them: Ray has no free CPU or GPU for one, or the aligner cannot reach Redis.",
    ),
    Alert(
        "VersionsDiffer", "ticket", "1h",
        "count by (namespace) (count by (namespace, version) (miclip_build_info)) > 1",
        "{{ $value | humanize }} versions of miclip run side by side",
        "A roll-out is stuck.",
    ),
)  # fmt: skip


def groups() -> list[dict[str, Any]]:
    """The group of alerts."""
    return [{"name": "miclip.alerts", "rules": [alert.rule() for alert in ALERTS]}]
