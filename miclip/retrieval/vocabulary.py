"""Vocabularies: named, ordered sets of concepts and their embeddings in the shared space."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, normalise
from miclip.bundles import bundles
from miclip.errors import InvalidInput, NotFound
from miclip.settings import settings
from miclip.texts import check_text

MODEL_LABELS = "model-labels"
"""Id of the vocabulary that stands for the labels of the model asked about."""
IMAGENET = "imagenet"
"""Id of the vocabulary of ImageNet-1k's classes."""

EmbedTexts = Callable[[list[str]], NDArray[np.float32]]
"""Texts → CLIP text embeddings [n, D]."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Concepts and their CLIP text embeddings.

    Attributes:
        id: Name; empty for concepts given in a request.
        concepts: Texts, each once.
        embeddings: Normalised text embeddings [V, D] float32, not centred.
    """

    id: str
    concepts: tuple[str, ...]
    embeddings: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.concepts) or not self.concepts:
            raise InvalidInput(
                f"A vocabulary of {len(self.concepts)} concepts needs as many embeddings and at least one, "
                f"not an array of shape {self.embeddings.shape}.",
                field="concepts",
            )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the concepts, hexadecimal: see ``concepts_sha256``."""
        return concepts_sha256(self.concepts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of concepts and embeddings, hexadecimal: the same texts embedded by another CLIP differ here."""
        return hashlib.sha256(self.sha256.encode() + np.ascontiguousarray(self.embeddings).tobytes()).hexdigest()


def concepts_sha256(concepts: Sequence[str]) -> str:
    """Return the SHA-256 of an ordered list of concepts as a JSON array in UTF-8, hexadecimal."""
    return hashlib.sha256(json.dumps(list(concepts), ensure_ascii=False).encode()).hexdigest()


def check_concepts(concepts: Sequence[str], *, field: str = "concepts", limit: int | None = None) -> tuple[str, ...]:
    """Return concepts with surrounding white space removed.

    Args:
        concepts: Texts from a request.
        field: Name of the request's field, for messages.
        limit: Largest number; default ``settings().max_vocabulary``.

    Raises:
        InvalidInput: there are none or too many; one is empty, too long, unprintable or repeated.
    """
    allowed = f"1 to {limit or settings().max_vocabulary}"
    if not 1 <= len(concepts) <= (limit or settings().max_vocabulary):
        raise InvalidInput(
            f"{field} holds {len(concepts)} concepts; {allowed} are allowed.", field=field, allowed=allowed
        )
    first_place: dict[str, int] = {}
    for place, concept in enumerate(concepts):
        text = check_concept(concept, f"{field}[{place}]")
        if (earlier := first_place.setdefault(text, place)) != place:
            raise InvalidInput(
                f"{field}[{place}] repeats {field}[{earlier}]; every concept may be given once.",
                field=f"{field}[{place}]",
                allowed="each text once",
            )
    return tuple(first_place)


def builtin_vocabularies() -> tuple[str, ...]:
    """Return the ids of the vocabularies that every server has: those of the bundles, and miclip's own."""
    named = [name for bundle in bundles() for name in bundle.manifest.vocabularies]
    return tuple(dict.fromkeys([*named, IMAGENET, MODEL_LABELS]))


def builtin_concepts(vocabulary_id: str) -> tuple[str, ...]:
    """Return the concepts of ``imagenet`` (the 1000 classes of ImageNet-1k) or of a vocabulary of a bundle.

    Raises:
        NotFound: no other list of concepts is there. (``model-labels`` are in the model's atlas.)
    """
    for bundle in bundles():
        if vocabulary_id in bundle.manifest.vocabularies:
            return bundle.vocabulary(vocabulary_id)
    if vocabulary_id == IMAGENET:
        return _imagenet()
    names = ", ".join(builtin_vocabularies())
    raise NotFound(f"There is no vocabulary {vocabulary_id[:80]!r}. miclip comes with {names}.", field="vocabulary")


@cache
def _imagenet() -> tuple[str, ...]:
    """Read OpenCLIP's names without importing OpenCLIP, which would bring torch into processes that only search."""
    package = importlib.util.find_spec("open_clip")
    origin = Path(package.origin or "") if package else Path()
    module = importlib.util.spec_from_file_location("_zero_shot_metadata", origin.parent / "zero_shot_metadata.py")
    assert module is not None and module.loader is not None
    metadata = importlib.util.module_from_spec(module)
    module.loader.exec_module(metadata)
    return tuple(dict.fromkeys(metadata.IMAGENET_CLASSNAMES))


def model_labels(atlas: Atlas) -> Vocabulary:
    """Return the labels of the atlas's model as a vocabulary; labels that repeat are kept once."""
    places = {label: place for place, label in reversed(list(enumerate(atlas.manifest.labels)))}
    kept = sorted(places.values())
    labels = tuple(atlas.manifest.labels[place] for place in kept)
    return Vocabulary(MODEL_LABELS, labels, normalise(atlas.label_embeddings[kept]))


def embed_vocabulary(vocabulary_id: str, concepts: Sequence[str], embed: EmbedTexts, *, batch: int = 256) -> Vocabulary:
    """Embed concepts, ``batch`` at a time.

    Args:
        vocabulary_id: Name; empty for concepts given in a request.
        concepts: Texts, checked by ``check_concepts``.
        embed: The CLIP text tower, for example ``Clip.embed_texts``.
        batch: Texts per call of ``embed``.
    """
    parts = [embed(list(concepts[at : at + batch])) for at in range(0, len(concepts), batch)]
    return Vocabulary(vocabulary_id, tuple(concepts), normalise(np.concatenate(parts)))


def check_concept(concept: str, field: str) -> str:
    """Return a concept with surrounding white space removed; raises InvalidInput: see ``check_concepts``."""
    return check_text(concept, field, settings().max_text_chars)
