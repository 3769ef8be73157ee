"""Recording rules: ``level:series:operation``. Panels and alerts read these, so both show the same number."""

from __future__ import annotations

from typing import Any

from tools.monitoring.objectives import SLOW_SECONDS
from tools.monitoring.promql import FAULTS, LONG, rate, select, total

REQUESTS = "namespace_service:miclip_rpc_requests:rate5m"
SLOW = "namespace_service:miclip_rpc_slow:ratio_rate5m"
STEERED = "namespace_model:miclip_steering_applied:ratio_rate5m"
CACHE_HITS = "namespace:miclip_embedding_cache_hits:ratio_rate5m"
WINDOWS = ("5m", "30m", "1h", "6h")


def errors(window: str) -> str:
    """Name of the rule that gives the share of calls that ended by a fault of the server."""
    return f"namespace_service:miclip_rpc_errors:ratio_rate{window}"


def groups() -> list[dict[str, Any]]:
    """The group of recording rules."""
    service, model = ("namespace", "service"), ("namespace", "model")
    quick = f'rpc!~"{LONG}"'
    in_time = select("miclip_rpc_duration_seconds_bucket", quick, le=SLOW_SECONDS)
    timed = select("miclip_rpc_duration_seconds_count", quick)
    applied = select("miclip_steering_outcomes_total", outcome="applied")
    hits = select("miclip_embedding_cache_lookups_total", result="hit")
    made = {
        REQUESTS: total(rate("miclip_rpc_requests_total", "5m"), *service),
        **{errors(window): _errors(window) for window in WINDOWS},
        SLOW: f"1 - {total(rate(in_time, '5m'), *service)} / {total(rate(timed, '5m'), *service)}",
        STEERED: _ratio(applied, "miclip_steering_outcomes_total", *model),
        CACHE_HITS: _ratio(hits, "miclip_embedding_cache_lookups_total", "namespace"),
    }
    return [{"name": "miclip.recording", "rules": [{"record": name, "expr": expr} for name, expr in made.items()]}]


def _errors(window: str) -> str:
    faults = total(rate(select("miclip_rpc_rejected_total", f'reason=~"{FAULTS}"'), window), "namespace", "service")
    return f"{faults} / {total(rate('miclip_rpc_requests_total', window), 'namespace', 'service')}"


def _ratio(part: str, whole: str, *labels: str) -> str:
    return f"{total(rate(part, '5m'), *labels)} / {total(rate(whole, '5m'), *labels)}"
