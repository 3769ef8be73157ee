"""Pieces of queries. Every query names the labels that it keeps, so what a panel or rule gives is bounded."""

from __future__ import annotations

NAMESPACE = 'namespace=~"$namespace"'
"""The dashboards' choice of a namespace; a Prometheus without that label is covered by the choice "All"."""
MODEL = 'model=~"$model"'

FAULTS = "INTERNAL|NOT_READY|DEADLINE_EXCEEDED|OVERLOADED"
"""Reasons of refusals that are the server's fault and spend the error budget; the others are the caller's."""
LONG = "Watch.*|PreviewPolicy|CreateVocabulary"
"""RPCs that are no measure of speed: streams last as long as the caller wants, the others run many forward passes."""


def select(series: str, *matchers: str, **equal: str) -> str:
    """``series{…}``: matchers as they are, then labels with their value."""
    inside = ",".join([*matchers, *(f'{name}="{value}"' for name, value in equal.items())])
    return f"{series}{{{inside}}}" if inside else series


def total(inner: str, *labels: str) -> str:
    """The sum that keeps ``labels``."""
    return f"sum by ({', '.join(labels)}) ({inner})" if labels else f"sum({inner})"


def rate(selected: str, window: str) -> str:
    """Rise per second."""
    return f"rate({selected}[{window}])"


def quantile(share: float, selected: str, window: str, *labels: str) -> str:
    """Quantile of a histogram, given its ``_bucket`` series."""
    return f"histogram_quantile({share}, {total(rate(selected, window), 'le', *labels)})"
