"""Retrieval: what a unit means, and where a concept is.

An ``AtlasSearcher`` holds the indices of one atlas; a ``Vocabulary`` the concepts to choose from.
"""

from miclip.retrieval.attribution import (
    AttributionStore,
    Gathering,
    encode_activations,
    mechanism_embeddings,
    mix_relevance,
    relevance_vectors,
)
from miclip.retrieval.index import VectorIndex
from miclip.retrieval.labels import ABSTAIN_CONTRAST
from miclip.retrieval.results import (
    Description,
    Evidence,
    LabelShare,
    Localization,
    LocalizationMix,
    LocatedUnit,
    Ranking,
    ScoredConcept,
    TopImage,
    UnitRecord,
    UnitStatistics,
)
from miclip.retrieval.search import AtlasSearcher, LocalizationMethod, Modality, gathering
from miclip.retrieval.vocabulary import (
    MODEL_LABELS,
    EmbedTexts,
    Vocabulary,
    builtin_concepts,
    builtin_vocabularies,
    check_concept,
    check_concepts,
    concepts_sha256,
    embed_vocabulary,
    model_labels,
)

__all__ = [
    "ABSTAIN_CONTRAST",
    "MODEL_LABELS",
    "AtlasSearcher",
    "AttributionStore",
    "Description",
    "EmbedTexts",
    "Evidence",
    "Gathering",
    "LabelShare",
    "Localization",
    "LocalizationMethod",
    "LocalizationMix",
    "LocatedUnit",
    "Modality",
    "Ranking",
    "ScoredConcept",
    "TopImage",
    "UnitRecord",
    "UnitStatistics",
    "VectorIndex",
    "Vocabulary",
    "builtin_concepts",
    "builtin_vocabularies",
    "check_concept",
    "check_concepts",
    "concepts_sha256",
    "embed_vocabulary",
    "encode_activations",
    "gathering",
    "mechanism_embeddings",
    "mix_relevance",
    "model_labels",
    "relevance_vectors",
]
