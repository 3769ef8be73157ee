"""Kinds that requests, answers and atlases name, by the words that people write for them."""

from __future__ import annotations

from typing import Literal

UnitEmbedding = Literal["filter", "pattern", "causal"]
"""Which vector stands for a unit in the shared space."""
LocalizationMethod = Literal["attribution", "filter", "pattern", "causal"]
"""How ``localize`` ranks units: by the attribution store, or by the cosine of one of the unit embeddings."""
Modality = Literal["text", "image"]
"""Kind of a query's embedding; either is centred by the mean of its own kind."""
Ranking = Literal["causal_score", "cosine"]
"""What a unit's concepts are ranked by."""
TraceMeasure = Literal["cosine", "probability"]
"""What the scores of a trace's layer are: cosines in the shared space, or at the logits the model's probabilities."""
