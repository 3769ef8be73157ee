"""Retrieval and labels: whether units are found, whether their labels hold, and how atlases are made."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.monitoring.objectives import RECALL, SIMILARITY
from tools.monitoring.panels import Panel, Query, board, lines, number
from tools.monitoring.promql import MODEL, NAMESPACE, quantile, rate, select, total
from tools.monitoring.recording import CACHE_HITS

_WINDOW = "$__rate_interval"
_RECALL = f"min by (model, index) ({select('miclip_index_recall', NAMESPACE, MODEL)})"
_SIMILARITY = f"min by (model) ({select('miclip_label_similarity', NAMESPACE, MODEL)})"


def retrieval() -> Dashboard:
    """The dashboard."""
    return board(
        "miclip-retrieval",
        "miclip / Retrieval and labels",
        "How units and concepts are found, whether labels still hold for the images that come, and alignments.",
        [
            ("Now", _now()),
            ("Do labels hold, and are units found?", _quality()),
            ("Searches", _searches()),
            ("Alignments", _alignments()),
        ],
        models_of="miclip_index_vectors",
    )


def _now() -> list[Panel]:
    vectors = f"max by (model) ({select('miclip_index_vectors', NAMESPACE, MODEL)})"
    written = f"max by (model) ({select('miclip_atlas_written_timestamp_seconds', NAMESPACE, MODEL)})"
    return [
        number("Units in the index", "Unit embeddings of each model's active atlas.", "none",
               Query(vectors, "{{model}}"), width=6),
        number("Age of the atlas", "Time since the active atlas was written.", "s",
               Query(f"time() - {written}", "{{model}}"), width=6),
        number("Index finds", f"Least share of an exhaustive search's results that is found; {RECALL:.0%} is wanted.",
               "percentunit", Query(f"min({_RECALL})", ""), width=4,
               steps=((None, "red"), (RECALL, "green"))),
        number("Label similarity", "1: live images excite units as often as a part of the probe set would. "
               f"Below {SIMILARITY:g} labels are doubted.", "none", Query(_SIMILARITY, "{{model}}"), width=4,
               decimals=2, steps=((None, "red"), (SIMILARITY, "orange"), (0.7, "green"))),
        number("Texts found in the cache", "Share of the last 5 minutes' text embeddings that were not computed.",
               "percentunit", Query(f"max({select(CACHE_HITS, NAMESPACE)})", ""), width=4, decimals=0),
    ]  # fmt: skip


def _quality() -> list[Panel]:
    queries = total(rate(select("miclip_localizations_total", NAMESPACE, MODEL), _WINDOW), "evidence")
    lookups = total(rate(select("miclip_embedding_cache_lookups_total", NAMESPACE), _WINDOW), "result")
    return [
        lines("Label similarity", "Whether live unsteered images excite the units that the probe images did, over the "
              "newest 256: 1 as a part of the probe set would, 0 no unit in common.", "none",
              Query(_SIMILARITY, "{{model}}"), limit=SIMILARITY, top=1.0, width=6),
        lines("Localisations by evidence", "Queries whose units were looked for. Doubtful: the probe images show them "
              "no better than what they do not show.", "ops", Query(queries, "{{evidence}}"), stacked=True, width=6),
        lines("Recall of the index", "Share of an exhaustive search's results that are found, in the layer where "
              "fewest are; measured when an atlas is opened.", "percentunit", Query(_RECALL, "{{model}}: {{index}}"),
              limit=RECALL, top=1.0, width=6),
        lines("Lookups of text embeddings", "In the cache that all replicas share.", "ops",
              Query(lookups, "{{result}}"), stacked=True, width=6),
    ]  # fmt: skip


def _searches() -> list[Panel]:
    calls = select("miclip_rpc_requests_total", NAMESPACE, 'service=~"retrieval|aligner"')
    search = select("miclip_stage_duration_seconds_bucket", NAMESPACE, service="retrieval")
    embed = select("miclip_stage_duration_seconds_bucket", NAMESPACE, service="aligner")
    return [
        lines("Calls", "To retrieval and the aligner, by RPC.", "reqps",
              Query(total(rate(calls, _WINDOW), "rpc"), "{{rpc}}"), stacked=True),
        lines("Retrieval's stages, 95th percentile", "Of one request: words and embed wait for the aligner, search is "
              "the index.", "s", Query(quantile(0.95, search, _WINDOW, "stage"), "{{stage}}")),
        lines("The aligner's stages, 95th percentile", "CLIP's towers, of up to 64 inputs; capture and compare of one "
              "trace.", "s", Query(quantile(0.95, embed, _WINDOW, "stage"), "{{stage}}")),
    ]  # fmt: skip


def _alignments() -> list[Panel]:
    states = f"max by (state) ({select('miclip_alignments', NAMESPACE)})"
    ended = select("miclip_alignment_duration_seconds_count", NAMESPACE)
    steps, counts = (
        total(f"increase({select(f'miclip_alignment_step_duration_seconds_{part}', NAMESPACE)}[$__range])", "step")
        for part in ("sum", "count")
    )
    return [
        lines("Alignments by state", "Those that are kept.", "none", Query(states, "{{state}}")),
        lines("Alignments that ended", "Per hour, by outcome.", "suffix: /h",
              Query(f"3600 * {total(rate(ended, _WINDOW), 'outcome')}", "{{outcome}}")),
        number("Steps of an alignment", "Mean time of each step over the shown range; encoder is counted once a layer.",
               "s", Query(f"{steps} / ({counts} > 0)", "{{step}}"), width=8, height=8),
    ]  # fmt: skip
