"""The overview: rate, errors and duration of every service, its objectives, and what all services share."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.monitoring.objectives import BUDGET, FAST_BURN, SLOW_BURN, SLOW_SHARE
from tools.monitoring.panels import Panel, Query, board, heat, lines, number
from tools.monitoring.promql import FAULTS, LONG, NAMESPACE, quantile, rate, select, total
from tools.monitoring.recording import REQUESTS, SLOW, errors

_REQUESTS = select("miclip_rpc_requests_total", NAMESPACE)
_FAULTS = select("miclip_rpc_rejected_total", NAMESPACE, f'reason=~"{FAULTS}"')
_CALLS = select("miclip_rpc_duration_seconds_bucket", NAMESPACE, f'rpc!~"{LONG}"')
_WINDOW = "$__rate_interval"


def _recorded(rule: str) -> str:
    return f"sum by (service) ({select(rule, NAMESPACE)})"


def _burn(window: str) -> str:
    return f"max by (service) ({select(errors(window), NAMESPACE)}) / {BUDGET:g}"


def overview() -> Dashboard:
    """The dashboard."""
    return board(
        "miclip-overview",
        "miclip / Overview",
        "Whether the four services answer, how fast, and what that does to their objectives.",
        [
            ("Now", _now()),
            ("Calls by service: rate, errors, duration", _calls()),
            ("Objectives: 99.9 % of calls without a fault of the server, 99 % within a second", _objectives()),
            ("Inside", _inside()),
        ],
    )


def _now() -> list[Panel]:
    running = total(select("miclip_replicas", NAMESPACE), "service")
    failing = f"{total(rate(_FAULTS, '5m'))} / {total(rate(_REQUESTS, '5m'))}"
    versions = f"count by (version) ({select('miclip_build_info', NAMESPACE)})"
    firing = 'count(ALERTS{alertname=~"Miclip.+",alertstate="firing",namespace=~"$namespace"}) or vector(0)'
    return [
        number(
            "Replicas", "Replica processes that run, by service.", "none", Query(running, "{{service}}"), width=10,
            steps=((None, "red"), (1, "green")),
        ),
        number("Calls", "Calls from clients that ended, per second.", "reqps", Query(total(rate(_REQUESTS, "5m")), ""),
               width=3, decimals=1),
        number(
            "Failing", "Share of calls of the last 5 minutes that ended by a fault of the server.", "percentunit",
            Query(failing, ""), width=3, decimals=2, steps=((None, "green"), (BUDGET, "orange"), (0.0144, "red")),
        ),
        number(
            "95 % of calls within", "95th percentile of the time of a call; long calls are left out.", "s",
            Query(quantile(0.95, _CALLS, "5m"), ""), width=3, decimals=2, steps=((None, "green"), (1, "red")),
        ),
        number("Alerts", "Alerts of miclip that fire now.", "none", Query(firing, ""), width=2,
               steps=((None, "green"), (1, "red"))),
        number("Version", "What runs; two while a roll-out is under way.", "none", Query(versions, "{{version}}"),
               width=3, names=True),
    ]  # fmt: skip


def _calls() -> list[Panel]:
    refused = total(rate(select("miclip_rpc_rejected_total", NAMESPACE), _WINDOW), "reason")
    every = total(f"increase({_CALLS}[{_WINDOW}])", "le")
    return [
        lines("Calls", "Calls from clients that ended, by service.", "reqps",
              Query(total(rate(_REQUESTS, _WINDOW), "service"), "{{service}}")),
        lines(
            "Refusals by reason",
            "Calls that were not answered. INVALID_INPUT, NOT_FOUND and the like are the caller's; INTERNAL, "
            "NOT_READY, DEADLINE_EXCEEDED and OVERLOADED the server's.",
            "reqps", Query(refused, "{{reason}}"),
        ),
        lines("Duration, 95th percentile", "Of calls by service; long calls are left out.", "s",
              Query(quantile(0.95, _CALLS, _WINDOW, "service"), "{{service}}"), limit=1.0),
        lines("Calls by method", "Calls from clients that ended, by RPC.", "reqps",
              Query(total(rate(_REQUESTS, _WINDOW), "rpc"), "{{rpc}}"), stacked=True),
        lines("In flight", "Calls that are being answered, by service; refused from MICLIP_MAX_QUEUED a replica on.",
              "none", Query(total(select("miclip_rpc_in_flight", NAMESPACE), "service"), "{{service}}")),
        heat("Duration of all calls", "How many calls took how long; long calls are left out.", "s",
             Query(every, "{{le}}")),
    ]  # fmt: skip


def _objectives() -> list[Panel]:
    spent = (
        f"{total(f'increase({_FAULTS}[$__range])', 'service')} / {total(f'increase({_REQUESTS}[$__range])', 'service')}"
    )
    return [
        lines(
            "Speed at which the error budget is spent, last 5 minutes",
            f"Multiple of the speed that spends a 30-day budget in 30 days. An alert fires from {FAST_BURN:g} on when "
            "the last hour says so too.",
            "suffix:×", Query(_burn("5m"), "{{service}}"), limit=FAST_BURN,
        ),
        lines(
            "Speed at which the error budget is spent, last hour",
            f"As on the left, over the windows of the slower alerts: {SLOW_BURN:g} for six hours is too fast.",
            "suffix:×", Query(_burn("1h"), "{{service}}, 1 h"), Query(_burn("6h"), "{{service}}, 6 h"), limit=SLOW_BURN,
        ),
        lines("Slow calls", f"Share of calls that took over a second; {SLOW_SHARE:.0%} may. Long calls are left out.",
              "percentunit", Query(_recorded(SLOW), "{{service}}"), limit=SLOW_SHARE),
        number(
            "Error budget left over the shown range",
            "Share of the failing calls allowed by the objective that have not happened; below 0 it is overdrawn.",
            "percentunit", Query(f"1 - {spent} / {BUDGET:g}", "{{service}}"), width=12, decimals=1,
            steps=((None, "red"), (0, "orange"), (0.25, "green")),
        ),
        number("Calls, last 5 minutes", "What the shares above are shares of.", "reqps",
               Query(_recorded(REQUESTS), "{{service}}"), width=12, decimals=2),
    ]  # fmt: skip


def _inside() -> list[Panel]:
    spent = total(rate(select("miclip_stage_duration_seconds_sum", NAMESPACE), _WINDOW), "service", "stage")
    redis = select("miclip_redis_command_duration_seconds_bucket", NAMESPACE)
    broken = total(rate(select("miclip_redis_errors_total", NAMESPACE), _WINDOW), "command")
    return [
        lines("Where the time goes", "Seconds spent in each stage of the work per second, over all replicas.", "s",
              Query(spent, "{{service}}: {{stage}}"), stacked=True),
        lines("Redis, 99th percentile", "Time of commands with the way there and back; waiting reads are left out.",
              "s", Query(quantile(0.99, redis, _WINDOW, "command"), "{{command}}"), limit=0.05),
        lines("Redis commands that failed", "Nothing but 0 is fine: policies are not refreshed while they fail.", "ops",
              Query(broken, "{{command}}")),
    ]  # fmt: skip
