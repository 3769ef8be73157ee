"""Steering: what policies do to traffic, and how fast a change reaches every replica."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.monitoring.panels import Panel, Query, board, lines, number
from tools.monitoring.promql import MODEL, NAMESPACE, quantile, rate, select, total
from tools.monitoring.recording import STEERED

_WINDOW = "$__rate_interval"
_OUTCOMES = "miclip_steering_outcomes_total"
_AGE = f"time() - min({select('miclip_policies_confirmed_timestamp_seconds', NAMESPACE)})"
_DELAY = select("miclip_policy_propagation_seconds_bucket", NAMESPACE)


def steering() -> Dashboard:
    """The dashboard."""
    return board(
        "miclip-steering",
        "miclip / Steering",
        "How much of the traffic is steered, what policies there are, and whether changes and the kill switch arrive.",
        [("Now", _now()), ("Steered traffic", _traffic()), ("From a change to its use", _propagation())],
        models_of=_OUTCOMES,
    )


def _stopped(window: str) -> str:
    return total(rate(select(_OUTCOMES, NAMESPACE, MODEL, outcome="stopped"), window))


def _now() -> list[Panel]:
    share = f"max by (model) ({select(STEERED, NAMESPACE, MODEL)})"
    policies = f"max({select('miclip_policies_active', NAMESPACE)})"
    stale = f"max({select('miclip_policies_stale', NAMESPACE)})"
    return [
        number("Steered", "Share of the last 5 minutes' requests that were steered.", "percentunit",
               Query(share, "{{model}}"), width=6, decimals=0),
        number("Policies", "In force, as the replicas know them.", "none", Query(policies, ""), width=3),
        number("Held back by the kill switch", "Requests per second that asked for steering and were answered without.",
               "reqps", Query(_stopped("5m"), ""), width=5, decimals=2, steps=((None, "green"), (0.001, "orange"))),
        number("Policies confirmed", "Time since the replica that is furthest behind knew its policies as the newest.",
               "s", Query(_AGE, ""), width=4, decimals=1, steps=((None, "green"), (60, "red"))),
        number("Stale replicas", "1 while a replica cannot refresh its policies.", "none", Query(stale, ""), width=2,
               steps=((None, "green"), (1, "red"))),
        number("Changes arrive within", "99th percentile over the last 15 minutes.", "s",
               Query(quantile(0.99, _DELAY, "15m"), ""), width=4, steps=((None, "green"), (5, "red"))),
    ]  # fmt: skip


def _traffic() -> list[Panel]:
    outcomes = rate(select(_OUTCOMES, NAMESPACE, MODEL), _WINDOW)
    applied = total(rate(select(_OUTCOMES, NAMESPACE, MODEL, outcome="applied"), _WINDOW), "model")
    compiled = select("miclip_stage_duration_seconds_bucket", NAMESPACE, service="activation", stage="compile")
    return [
        lines("Requests by what became of their steering", "none: asked for none; not_in_share: outside the policy's "
              "share of traffic; stopped: the kill switch.", "reqps", Query(total(outcomes, "outcome"), "{{outcome}}"),
              stacked=True),
        lines("Steered share", "Of the requests of each model.", "percentunit",
              Query(f"{applied} / {total(outcomes, 'model')}", "{{model}}"), top=1.0),
        lines("Edits to tensors", "Time to compile a batch's edits; applying them is part of the forward pass.", "s",
              Query(quantile(0.5, compiled, _WINDOW), "median"), Query(quantile(0.99, compiled, _WINDOW), "99 %")),
    ]  # fmt: skip


def _propagation() -> list[Panel]:
    changes = total(rate(select("miclip_policy_changes_total", NAMESPACE), _WINDOW), "action")
    stages = select("miclip_stage_duration_seconds_bucket", NAMESPACE, service="steering")
    calls = total(rate(select("miclip_rpc_requests_total", NAMESPACE, service="steering"), _WINDOW), "rpc")
    return [
        lines("Changes", "Of policies and of the kill switch, per minute.", "suffix: /min",
              Query(f"60 * {changes}", "{{action}}"), stacked=True),
        lines("From a change to its use", "Time from the newest change in Redis to its use by a replica.", "s",
              Query(quantile(0.5, _DELAY, _WINDOW), "median"), Query(quantile(0.99, _DELAY, _WINDOW), "99 %"), limit=5),
        lines("Age of what the replicas know", "Time since the replica that is furthest behind confirmed its policies.",
              "s", Query(_AGE, "age"), limit=60),
        lines("Calls", "To the steering service, by RPC.", "reqps", Query(calls, "{{rpc}}"), stacked=True, width=12),
        lines("Stages, 95th percentile", "Of one request: resolve finds a concept's units, measure takes a receipt.",
              "s", Query(quantile(0.95, stages, _WINDOW, "stage"), "{{stage}}"), width=12),
    ]  # fmt: skip
