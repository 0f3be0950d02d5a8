#!/usr/bin/env python3
"""Builds one rival's approximate index and measures recall@10 against queries per CPU-second.

    approximate.py RIVAL vectors.npy queries.npy truth.npy     (truth: [queries, k] row numbers, -1 for none)

Where STRATAL_RIVAL_INDEXES names a folder, an index is kept there with what building it took, and the next run over the
same vectors reads it: building takes minutes, and is done once for figures of searching that are taken often.

One JSON object: {"build_cpu_s", "build_wall_s", "bytes", "curve": [[setting, recall, queries per CPU-second]]}.
All queries are handed over in one call and answered one by one on one thread, so that Python costs nothing.
"""

import json
import os
import resource
import sys
import tempfile
import time

import numpy


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
}


def ready(rival, path):
    """The rival's index over the vectors of a file, and what building it took: built, or read if it was kept."""
    vectors = numpy.load(path, mmap_mode="r")
    index = RIVALS[rival](vectors.shape[1])
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
        index.save(file)
        facts["bytes"] = os.path.getsize(file)
        with open(told, "w") as out:
            json.dump(facts, out)
        return index, facts
SETTINGS = [10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100, 128, 160, 200, 260, 340, 450, 600]


def recall(found, truth):
    wanted = sum(int((row >= 0).sum()) for row in truth)
    return sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, truth)) / wanted


def main():
    queries, truth = (numpy.load(path) for path in sys.argv[3:5])
    queries, truth = numpy.ascontiguousarray(queries), truth[:, :10]
    index, answer = ready(sys.argv[1], sys.argv[2])
    curve = []
    for setting in SETTINGS:
        rates = []
        for _ in range(3):
            start = time.process_time()
            first, second = index.search(queries, 10, setting)
            rates.append(len(queries) / (time.process_time() - start))
        labels = first if numpy.issubdtype(numpy.asarray(first).dtype, numpy.integer) else second
        curve.append([setting, recall(labels, truth), max(rates)])
        if curve[-1][1] > 0.996:
            break
    answer["curve"] = curve
    answer["resident_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
