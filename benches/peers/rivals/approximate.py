#!/usr/bin/env python3
"""Builds one rival's approximate index and measures recall@10 against queries per CPU-second.

    approximate.py RIVAL vectors.npy queries.npy truth.npy     (truth: [queries, k] row numbers, -1 for none)

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


def symphonyqg(vectors, bits):
    import rabitqlib

    index = rabitqlib.SymqgIndex(vectors.shape[1], 32, "ip", bits)

    def build():
        index.build(vectors, 200, 2)

    def search(queries, k, setting):
        return index.search(queries, k, setting, 1)

    def size():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "index")
            index.save(path)
            return os.path.getsize(path)

    return build, search, size


def hnswlib_index(vectors):
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=200)

    def build():
        index.add_items(vectors, num_threads=2)

    def search(queries, k, setting):
        index.set_ef(setting)
        labels, distances = index.knn_query(queries, k, num_threads=1)
        return labels, distances

    return build, search, index.index_file_size


def faiss_sq8(vectors):
    import faiss

    faiss.omp_set_num_threads(2)
    index = faiss.IndexHNSWSQ(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200

    def build():
        index.train(vectors)
        index.add(vectors)
        faiss.omp_set_num_threads(1)

    def search(queries, k, setting):
        index.hnsw.efSearch = setting
        scores, labels = index.search(queries, k)
        return labels, scores

    def size():
        return len(faiss.serialize_index(index))

    return build, search, size


RIVALS = {
    "symphonyqg": lambda vectors: symphonyqg(vectors, 0),
    "symphonyqg8": lambda vectors: symphonyqg(vectors, 8),
    "hnswlib": hnswlib_index,
    "faiss-hnsw-sq8": faiss_sq8,
}
SETTINGS = [10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100, 128, 160, 200, 260, 340, 450, 600]


def recall(found, truth):
    wanted = sum(int((row >= 0).sum()) for row in truth)
    return sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, truth)) / wanted


def main():
    rival, vectors, queries, truth = sys.argv[1], *(numpy.load(path) for path in sys.argv[2:5])
    vectors, queries = numpy.ascontiguousarray(vectors), numpy.ascontiguousarray(queries)
    truth = truth[:, :10]
    build, search, size = RIVALS[rival](vectors)
    before, wall = time.process_time(), time.time()
    build()
    answer = {"build_cpu_s": time.process_time() - before, "build_wall_s": time.time() - wall}
    curve = []
    for setting in SETTINGS:
        rates = []
        for _ in range(3):
            start = time.process_time()
            first, second = search(queries, 10, setting)
            rates.append(len(queries) / (time.process_time() - start))
        labels = first if numpy.issubdtype(numpy.asarray(first).dtype, numpy.integer) else second
        curve.append([setting, recall(labels, truth), max(rates)])
        if curve[-1][1] > 0.996:
            break
    answer["curve"] = curve
    answer["bytes"] = size()
    answer["resident_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
