#!/usr/bin/env python3
"""Rivals' approximate indexes over one set of vectors: recall@10 against queries per CPU-second.

    approximate.py vectors.npy queries.npy truth.npy RIVAL ...     (truth: [queries, k] row numbers)

Builds or reads the indexes, writes one JSON line, {RIVAL: {"build_cpu_s", "build_wall_s", "bytes"}}, and answers each line
that names a rival with its curve, [[setting, recall, queries per CPU-second]]. All queries are handed over in one call and
answered one by one on one thread, so that Python costs nothing (but qdrant-edge and LanceDB take one query a call).
Vectors [n, m, D] are documents of m vectors each: where the rival does not know such, all are indexed, more are fetched,
and documents counted once, outside of the time measured.

Where STRATAL_RIVAL_INDEXES names a folder, an index is kept there with what building it took, and the next run over the
same vectors reads it: building takes minutes, and is done once for figures of searching that are taken often.
"""

import json
import os
import sys
import tempfile
import time

import numpy

from approximate_others import LanceDb, Scann, Usearch
from approximate_qdrant import QdrantEdge, QdrantSq8


class SymphonyQG:
    def __init__(self, dimension, bits):
        import rabitqlib

        self.index = rabitqlib.SymqgIndex(dimension, 32, "ip", bits)

    def build(self, vectors):
        self.index.build(vectors, 200, 2)

    def search(self, queries, k, setting):
        return self.index.search(queries, k, setting, 1)

    def save(self, path):
        self.index.save(path)

    def load(self, path):
        self.index = type(self.index).load(path)


class Hnswlib:
    def __init__(self, dimension):
        import hnswlib

        self.index = hnswlib.Index("ip", dimension)

    def build(self, vectors):
        self.index.init_index(len(vectors), M=16, ef_construction=200)
        self.index.add_items(vectors, num_threads=2)

    def search(self, queries, k, setting):
        self.index.set_ef(setting)
        return self.index.knn_query(queries, k, num_threads=1)

    def save(self, path):
        self.index.save_index(path)

    def load(self, path):
        self.index.load_index(path)


class FaissSq8:
    def __init__(self, dimension):
        import faiss

        self.faiss = faiss
        coded = faiss.ScalarQuantizer.QT_8bit
        self.index = faiss.IndexHNSWSQ(dimension, coded, 16, faiss.METRIC_INNER_PRODUCT)

    def build(self, vectors):
        self.faiss.omp_set_num_threads(2)
        self.index.hnsw.efConstruction = 200
        self.index.train(vectors)
        self.index.add(vectors)

    def search(self, queries, k, setting):
        self.faiss.omp_set_num_threads(1)
        self.index.hnsw.efSearch = setting
        return self.index.search(queries, k)

    def save(self, path):
        self.faiss.write_index(self.index, path)

    def load(self, path):
        self.index = self.faiss.read_index(path)


RIVALS = {
    "symphonyqg": lambda dimension: SymphonyQG(dimension, 0),
    "symphonyqg8": lambda dimension: SymphonyQG(dimension, 8),
    "hnswlib": Hnswlib,
    "faiss-hnsw-sq8": FaissSq8,
    "qdrant-edge": QdrantEdge,
    "usearch-bf16": Usearch,
    "scann": Scann,
    "qdrant-edge-sq8": QdrantSq8,
    "lancedb": LanceDb,
}

# Those that take a document's vectors together.
MULTIVECTOR = {"qdrant-edge"}

# Where a curve ends for those that are some hundred times slower than the others.
ENOUGH = {"qdrant-edge": 0.95, "lancedb": 0.99}

# For documents of several vectors: fetched at least, to be left with ten documents.
FETCHED = 40


def ready(rival, path):
    """The rival's index over the vectors of a file, and what building it took: built, or read if it was kept."""
    vectors = numpy.load(path, mmap_mode="r")
    index = RIVALS[rival](vectors.shape[-1])
    if vectors.ndim == 3 and rival not in MULTIVECTOR:
        vectors = vectors.reshape(-1, vectors.shape[-1])
    with tempfile.TemporaryDirectory() as folder:
        kept = os.environ.get("STRATAL_RIVAL_INDEXES", folder)
        file = os.path.join(kept, f"{rival}-{os.path.splitext(os.path.basename(path))[0]}-{len(vectors)}")
        told = file + ".json"
        if os.path.exists(told):
            index.load(file)
            with open(told) as facts:
                return index, json.load(facts)
        vectors = numpy.ascontiguousarray(vectors)
        cpu, wall = time.process_time(), time.time()
        index.build(vectors)
        facts = {"build_cpu_s": time.process_time() - cpu, "build_wall_s": time.time() - wall}
        if hasattr(index, "save"):
            index.save(file)
            facts["bytes"] = os.path.getsize(file)
            with open(told, "w") as out:
                json.dump(facts, out)
        else:
            facts["bytes"] = index.bytes()
        return index, facts


SETTINGS = [10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100, 128, 160, 200, 260, 340, 450, 600]


def recall(found, truth):
    return sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, truth)) / truth.size


def curve(index, queries, truth, layers, enough):
    """Until that recall is passed."""
    points = []
    fetched = FETCHED if layers > 1 else truth.shape[1]
    for setting in SETTINGS:
        if setting < fetched:
            continue
        rates = []
        for _ in range(2):
            start = time.process_time()
            first, second = index.search(queries, fetched, setting)
            rates.append(len(queries) / (time.process_time() - start))
        labels = first if numpy.issubdtype(numpy.asarray(first).dtype, numpy.integer) else second
        if layers > 1:
            # In order of their scores; a dict keeps the first of each.
            labels = [list(dict.fromkeys(int(row) // layers for row in rows))[: truth.shape[1]] for rows in labels]
        points.append([setting, recall(labels, truth), max(rates)])
        if points[-1][1] > enough:
            break
    return points


def main():
    path, names = sys.argv[1], sys.argv[4:]
    queries, truth = (numpy.load(file) for file in sys.argv[2:4])
    queries, truth = numpy.ascontiguousarray(queries), truth[:, :10]
    shape = numpy.load(path, mmap_mode="r").shape
    indexes, facts = {}, {}
    for name in names:
        indexes[name], facts[name] = ready(name, path)
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        name = line.strip()
        layers = shape[1] if len(shape) == 3 and name not in MULTIVECTOR else 1
        print(json.dumps(curve(indexes[name], queries, truth, layers, ENOUGH.get(name, 0.995))), flush=True)


if __name__ == "__main__":
    main()
