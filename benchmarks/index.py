"""What the retrieval index gains and loses: ``python benchmarks/index.py``.

Vectors as units of a vision model have them: clusters of near neighbours, 512 dimensions. For every size, the kind
of index that miclip chooses, its build time, the median time of a query for ten neighbours, also as a multiple of
an exhaustive search (NumPy's matrix product and a partial sort, on one thread, in the same run), and the recall.
"""

from __future__ import annotations

import argparse
import statistics
import time

import faiss
import numpy as np
from numpy.typing import NDArray

from miclip.retrieval.index import VectorIndex

DIM, NEIGHBOURS, QUERIES = 512, 10, 200


def units(size: int, seed: int = 0) -> NDArray[np.float32]:
    """Return ``size`` vectors of length 1 around a hundredth as many centres."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(1, size // 100), DIM), np.float32)
    vectors = centres[generator.integers(len(centres), size=size)]
    vectors += 0.7 * generator.standard_normal((size, DIM), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def exhaustive(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the neighbours of a query, best first."""
    scores = vectors @ query
    best = np.argpartition(-scores, NEIGHBOURS)[:NEIGHBOURS]
    found: NDArray[np.int64] = best[np.argsort(-scores[best])]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[1_000, 10_000, 49_999, 100_000, 250_000])
    faiss.omp_set_num_threads(1)
    print(f"{'vectors':>9} {'index':6} {'build s':>8} {'ms/query':>9} {'× exhaustive':>13} {'recall %':>9}")
    for size in parser.parse_args().sizes:
        vectors = units(size)
        queries = vectors[:: max(1, size // QUERIES)][:QUERIES] + np.float32(0.02)
        started = time.perf_counter()
        index = VectorIndex(vectors)
        build, floor, ours = time.perf_counter() - started, [], []
        for query in queries:
            started = time.perf_counter()
            exhaustive(vectors, query)
            middle = time.perf_counter()
            index.search(query[None], NEIGHBOURS)
            floor.append(middle - started)
            ours.append(time.perf_counter() - middle)
        median, ratio = statistics.median(ours), statistics.median(ours) / statistics.median(floor)
        recall = 100 * index.recall(queries, NEIGHBOURS)
        print(
            f"{size:>9,} {index.kind:6} {build:>8.1f} {1e3 * median:>9.2f} {ratio:>12.2f}× {recall:>9.1f}", flush=True
        )


if __name__ == "__main__":
    main()
