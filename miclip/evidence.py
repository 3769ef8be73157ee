"""How far to trust a localisation, as a plain value: searches return it, policies by concept keep it."""

from __future__ import annotations

from dataclasses import dataclass

_LEAST_OF_HEAVIEST = 0.1


@dataclass(frozen=True)
class LabelShare:
    """A predicted label with its share of the weight of a query's probe rows, above 0 to 1."""

    label: str
    share: float


@dataclass(frozen=True)
class Evidence:
    """What the probe images have to say about a query: how far to trust its localisation.

    Attributes:
        relevance: Mean relevance of the probe images that were weighed, -1 to 1.
        null_percentile: Share of a null that is less relevant, 0 to 100: the model's labels (for an image: probe
            images), each with every image taken away that the model predicts as it.
        doubtful: Whether ``null_percentile`` is below ``settings().doubt_percentile``: the probe images show the query
            no better than something they do not show, and its units are then most likely those of something else. A
            query that the labels name is not doubtful ("elephant", answered from African elephants); a negated one is.
        labels: What the model predicted for the images, heaviest first: what the units are those of.
        negation: The word that negates the query, which embeddings of texts do not understand; empty where none does.
    """

    relevance: float
    null_percentile: float
    doubtful: bool
    labels: tuple[LabelShare, ...]
    negation: str = ""

    def covered(self) -> tuple[LabelShare, ...]:
        """Return the labels that the query covers, heaviest first: those of at least a tenth of the heaviest share."""
        return tuple(label for label in self.labels if label.share >= _LEAST_OF_HEAVIEST * self.labels[0].share)
