"""Retrieval: what a unit means, and where a concept is.

An ``AtlasSearcher`` holds the indices of one atlas; a ``Vocabulary`` the concepts to choose from.
"""

from miclip.retrieval.attribution import AttributionStore, encode_activations, mechanism_embeddings, relevance_vectors
from miclip.retrieval.index import VectorIndex
from miclip.retrieval.results import (
    Description,
    Localization,
    LocalizationMix,
    LocatedUnit,
    ScoredConcept,
    TopImage,
    UnitRecord,
    UnitStatistics,
)
from miclip.retrieval.search import AtlasSearcher, LocalizationMethod, Modality
from miclip.retrieval.vocabulary import (
    BUILTIN_VOCABULARIES,
    MODEL_LABELS,
    Vocabulary,
    builtin_concepts,
    check_concepts,
    concepts_sha256,
    embed_vocabulary,
    model_labels,
)

__all__ = [
    "BUILTIN_VOCABULARIES",
    "MODEL_LABELS",
    "AtlasSearcher",
    "AttributionStore",
    "Description",
    "Localization",
    "LocalizationMethod",
    "LocalizationMix",
    "LocatedUnit",
    "Modality",
    "ScoredConcept",
    "TopImage",
    "UnitRecord",
    "UnitStatistics",
    "VectorIndex",
    "Vocabulary",
    "builtin_concepts",
    "check_concepts",
    "concepts_sha256",
    "embed_vocabulary",
    "encode_activations",
    "mechanism_embeddings",
    "model_labels",
    "relevance_vectors",
]
