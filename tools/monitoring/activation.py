"""GPU and batching: what the activation service does with its models and its memory."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.monitoring.panels import Panel, Query, board, heat, lines, number
from tools.monitoring.promql import MODEL, NAMESPACE, quantile, rate, select, total

_WINDOW = "$__rate_interval"
_ROWS = "miclip_batch_rows"


def _rows(part: str, window: str, *labels: str) -> str:
    return total(rate(select(f"{_ROWS}_{part}", NAMESPACE, MODEL), window), *labels)


def _stage(name: str) -> str:
    return select("miclip_stage_duration_seconds_bucket", NAMESPACE, service="activation", stage=name)


def _gpu(kind: str, *labels: str) -> str:
    return total(select("miclip_gpu_memory_bytes", NAMESPACE, kind=kind), *labels)


def activation() -> Dashboard:
    """The dashboard."""
    return board(
        "miclip-activation",
        "miclip / GPU and batching",
        "How full batches are, how long requests wait for one, how long the model takes, and what is left of the GPU.",
        [
            ("Now", _now()),
            ("Batches", _batches()),
            ("Stages", _stages()),
            ("Models", _models()),
            ("GPU, where there is one", _memory()),
        ],
        models_of="miclip_batch_rows_count",
    )


def _now() -> list[Panel]:
    waits = select("miclip_batch_wait_seconds_bucket", NAMESPACE, MODEL)
    return [
        number("Rows", "Rows through the models per second: images, twice with a baseline.", "suffix: /s",
               Query(_rows("sum", "5m"), ""), decimals=1),
        number("Batches", "Forward passes per second.", "suffix: /s", Query(_rows("count", "5m"), ""), decimals=1),
        number("Rows in a batch", "On average; more rows in a batch make better use of a GPU.", "none",
               Query(f"{_rows('sum', '5m')} / {_rows('count', '5m')}", ""), decimals=1),
        number("Batches held open", "99th percentile of the time that a batch waits for more rows "
               "(at most MICLIP_BATCH_WAIT_S).", "s", Query(quantile(0.99, waits, "5m"), "")),
        number("Requests wait", "95th percentile of the time from decoded images to the start of their batch.", "s",
               Query(quantile(0.95, _stage("queue"), "5m"), ""), steps=((None, "green"), (0.5, "red"))),
        number("Forward pass", "95th percentile of the time of a batch in the model.", "s",
               Query(quantile(0.95, _stage("forward"), "5m"), "")),
    ]  # fmt: skip


def _batches() -> list[Panel]:
    waits = select("miclip_batch_wait_seconds_bucket", NAMESPACE, MODEL)
    spread = total(f"increase({select(f'{_ROWS}_bucket', NAMESPACE, MODEL)}[{_WINDOW}])", "le")
    return [
        lines("Rows", "Rows through each model per second.", "suffix: /s",
              Query(_rows("sum", _WINDOW, "model"), "{{model}}"), stacked=True),
        lines("Rows in a batch", "On average, by model; at most MICLIP_MAX_BATCH.", "none",
              Query(f"{_rows('sum', _WINDOW, 'model')} / {_rows('count', _WINDOW, 'model')}", "{{model}}")),
        heat("Sizes of batches", "How many batches had how many rows.", "none", Query(spread, "{{le}}")),
        lines("Time a batch is held open", "Waiting for more rows; 0 while nobody is about to join.", "s",
              Query(quantile(0.5, waits, _WINDOW), "median"), Query(quantile(0.99, waits, _WINDOW), "99 %"), width=12),
        lines("Time a request waits for its batch", "From decoded images to the start of the first batch.", "s",
              Query(quantile(0.5, _stage("queue"), _WINDOW), "median"),
              Query(quantile(0.95, _stage("queue"), _WINDOW), "95 %"), width=12, limit=0.5),
    ]  # fmt: skip


def _stages() -> list[Panel]:
    every = select("miclip_stage_duration_seconds_bucket", NAMESPACE, service="activation")
    spent = select("miclip_stage_duration_seconds_sum", NAMESPACE, service="activation")
    answers = select("miclip_rpc_duration_seconds_bucket", NAMESPACE, 'rpc=~"Predict|CaptureActivations"')
    return [
        lines("Stages, 95th percentile", "Decode and preprocess of one image, queue of one request, compile (edits) "
              "and forward (which applies them) of one batch.", "s",
              Query(quantile(0.95, every, _WINDOW, "stage"), "{{stage}}")),
        lines("Where the time goes", "Seconds spent in each stage per second, over all replicas.", "s",
              Query(total(rate(spent, _WINDOW), "stage"), "{{stage}}"), stacked=True),
        lines("Answers, 95th percentile", "Time of a call that runs a model.", "s",
              Query(quantile(0.95, answers, _WINDOW, "rpc"), "{{rpc}}")),
    ]  # fmt: skip


def _memory() -> list[Panel]:
    free = f"{_gpu('free', 'instance', 'device')} / {_gpu('total', 'instance', 'device')}"
    return [
        lines("GPU memory in use", "By replicas of each service: allocated is tensors, reserved what torch keeps.",
              "bytes", Query(_gpu("allocated", "service"), "{{service}}, allocated"),
              Query(_gpu("reserved", "service"), "{{service}}, reserved"), width=12),
        lines("GPU memory left", "Share of each GPU that is free.", "percentunit",
              Query(free, "{{instance}}, GPU {{device}}"), width=12, top=1.0),
    ]  # fmt: skip


def _models() -> list[Panel]:
    loaded = total(select("miclip_models_loaded", NAMESPACE, MODEL), "model")
    dropped = total(rate(select("miclip_model_evictions_total", NAMESPACE, MODEL), _WINDOW), "model")
    return [
        lines("Models loaded", "Replicas that have the model loaded.", "short", Query(loaded, "{{model}}"), width=12),
        lines("Models dropped", "By replicas, to make room for others. Models that come and go all the time need a "
              "larger MICLIP_MAX_LOADED_MODELS or MICLIP_MODEL_BYTES, or more memory.", "cps",
              Query(dropped, "{{model}}"), width=12),
    ]  # fmt: skip
