"""Inner-product search with FAISS; the kind of index is chosen by size."""

from __future__ import annotations

import math
import threading
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from miclip.errors import InvalidInput
from miclip.settings import settings

FLAT_BELOW = 50_000
"""Fewer vectors than this are searched exhaustively."""
GRAPH_BELOW = 1_000_000
"""Fewer vectors than this are searched through an HNSW graph, more through IVF-PQ."""

_LINKS = 32  # of an HNSW node
_OVERFETCH = 4  # candidates of an approximate index per result, ranked again by their exact score
_MIN_FETCHED = 256  # candidates at least
_ROUNDING = 1e-5  # of a score that is summed in another order
_GPU_MAX_K = 2048  # results that FAISS can give on a GPU


class VectorIndex:
    """Maximum inner product search over fixed vectors; of normalised vectors, cosine search.

    Scores are always exact and do not depend on the other queries of a call; below ``FLAT_BELOW`` vectors the
    ranking is exact as well. Immutable; safe to share between threads.

    Args:
        vectors: Vectors [n, D] of any float dtype, n ≥ 1.
        flat_below: Use an exhaustive index below this size.
        graph_below: Use an HNSW graph below this size.

    Attributes:
        kind: ``flat``, ``hnsw`` or ``ivfpq``.
        size: Number of vectors n.
        dim: Their dimension D.
    """

    def __init__(
        self, vectors: NDArray[np.floating], *, flat_below: int = FLAT_BELOW, graph_below: int = GRAPH_BELOW
    ) -> None:
        self._vectors = np.ascontiguousarray(vectors, np.float32)
        self.size, self.dim = self._vectors.shape
        on_gpu = settings().faiss_gpu and faiss.get_num_gpus() > 0
        self.kind = choose(self.size, flat_below, graph_below, on_gpu=on_gpu)
        self._index = _build(self.kind, self._vectors)
        self._index.add(self._vectors)
        if self.kind != "ivfpq":
            self._vectors = _stored(self._index, self.size, self.dim)
        self._gpu_lock = threading.Lock() if on_gpu else None
        if on_gpu:
            self._cpu_index = self._index  # owns the memory behind _vectors
            self._index = faiss.index_cpu_to_all_gpus(self._index)

    def search(self, queries: NDArray[np.floating], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the ``min(k, n)`` best vectors of every query.

        Args:
            queries: Queries [Q, D].
            k: Results per query, at least 1.

        Returns:
            Scores [Q, k] float32, best first, and their vectors' indices [Q, k] int64; equal scores in order of index.

        Raises:
            InvalidInput: ``queries`` are not finite vectors of dimension D, or ``k`` is less than 1.
        """
        wanted = np.ascontiguousarray(queries, np.float32)
        if wanted.ndim != 2 or wanted.shape[1] != self.dim or not np.isfinite(wanted).all():
            raise InvalidInput(f"Queries must be finite vectors of dimension {self.dim}.", field="queries")
        if k < 1:
            raise InvalidInput(f"k is {k}; at least 1 is needed.", field="k", allowed=f"1 to {self.size}")
        k = min(k, self.size)
        found = [
            self._rank(query, candidates, k)
            for query, candidates in zip(wanted, self._candidates(wanted, k), strict=True)
        ]
        scores, indices = zip(*found, strict=True) if found else ((), ())
        return np.array(scores, np.float32).reshape(-1, k), np.array(indices, np.int64).reshape(-1, k)

    def recall(self, queries: NDArray[np.floating], k: int) -> float:
        """Return the share of an exhaustive search's results that ``search`` finds, 0 to 1.

        A result counts when it scores no less than the exhaustive search's k-th best, so ties cost nothing.

        Args:
            queries: Queries [Q, D], Q ≥ 1.
            k: Results per query, at least 1.

        Raises:
            InvalidInput: as ``search`` does.
        """
        scores, _ = self.search(queries, k)
        wanted = np.ascontiguousarray(queries, np.float32)
        exact, _ = faiss.knn(wanted, self._vectors, scores.shape[1], metric=faiss.METRIC_INNER_PRODUCT)
        least = exact[:, -1:]
        return float((scores >= least - _ROUNDING * np.maximum(1, np.abs(least))).mean())

    def scores(self, query: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the inner product of one query [D] with every vector, float32 [n], without a search."""
        # One dot product a row: unlike a matrix product, its last bit does not depend on the other rows.
        products: NDArray[np.float32] = np.vecdot(self._vectors, np.asarray(query, np.float32))
        return products

    def products(self, queries: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the inner product of every query [Q, D] with every vector, float32 [Q, n], without a search."""
        products: NDArray[np.float32] = np.asarray(queries, np.float32) @ self._vectors.T
        return products

    def _candidates(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        fetched = k if self.kind == "flat" else min(self.size, max(k * _OVERFETCH, _MIN_FETCHED))
        if self._gpu_lock:
            with self._gpu_lock:  # GPU indices share scratch memory
                return _indices(self._index.search(queries, min(fetched, _GPU_MAX_K)))
        parameters = _search_parameters(self.kind, self._index, fetched)
        return _indices(self._index.search(queries, fetched, params=parameters))

    def _rank(
        self, query: NDArray[np.float32], candidates: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found = np.sort(candidates[candidates >= 0])
        if len(found) < k:  # the index gave up early: search exhaustively
            found = np.arange(self.size)
        # One dot product a row: unlike a matrix product, its last bit does not depend on the other rows.
        scores = np.vecdot(self._vectors[found], query)
        best = np.argsort(-scores, kind="stable")[:k]
        return scores[best], found[best]


def choose(size: int, flat_below: int, graph_below: int, *, on_gpu: bool) -> str:
    """Return the kind of index for ``size`` vectors: ``flat``, ``hnsw`` or ``ivfpq``."""
    if size < (graph_below if on_gpu else flat_below):  # a GPU has no graph index and needs none
        return "flat"
    return "hnsw" if size < graph_below else "ivfpq"


def _build(kind: str, vectors: NDArray[np.float32]) -> Any:
    size, dim = vectors.shape
    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    if kind == "hnsw":
        return faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
    lists = max(1, min(int(4 * math.sqrt(size)), size // 39))  # FAISS wants 39 training vectors a list
    code_bytes = next(m for m in range(max(1, dim // 4), 0, -1) if dim % m == 0)
    index = faiss.index_factory(dim, f"IVF{lists},PQ{code_bytes}", faiss.METRIC_INNER_PRODUCT)
    index.do_polysemous_training = False  # type: ignore[attr-defined]  # orders codes for a Hamming filter: not used
    index.train(vectors)
    return index


def _stored(index: Any, size: int, dim: int) -> NDArray[np.float32]:
    """View of the vectors that a flat or HNSW index holds."""
    flat = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    view: NDArray[np.float32] = faiss.rev_swig_ptr(flat.get_xb(), size * dim).reshape(size, dim)  # type: ignore[union-attr]
    return view


def _search_parameters(kind: str, index: Any, fetched: int) -> Any:
    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=max(_MIN_FETCHED, fetched))  # type: ignore[attr-defined]
    if kind == "ivfpq":
        return faiss.SearchParametersIVF(nprobe=max(16, index.nlist // 16))  # type: ignore[call-arg]
    return None


def _indices(found: tuple[Any, NDArray[np.int64]]) -> NDArray[np.int64]:
    return found[1]
