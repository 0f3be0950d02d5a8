"""Exact rivals on one set of vectors: `exact_search.py VECTORS.npy QUERIES.npy K`.

Answers one request a line with one JSON line: `RIVAL single|batch THREADS COUNT` searches COUNT
queries one by one or all at once and tells wall and CPU seconds and a sum over the rows found.
Rivals are loaded at their first request, which is answered without a search: `RIVAL load`.
Vectors [n, m, D] are documents of m vectors: a document scores as the best of its vectors.
"""

import json
import os
import sys
import tempfile
import time

# Before any of them reads it; the number of threads is set for each request.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

vectors = numpy.load(sys.argv[1])
queries = numpy.load(sys.argv[2])
k = int(sys.argv[3])
multi = vectors.ndim == 3
count, dimension = vectors.shape[0], vectors.shape[-1]
layers = vectors.shape[1] if multi else 1
flat = vectors.reshape(-1, dimension)
folder = tempfile.TemporaryDirectory(dir=os.environ.get("STRATAL_SCRATCH"))


def documents_of(rows):
    """The first k documents of rows in the order of their scores."""
    found = []
    for row in rows:
        document = int(row) // layers
        if document not in found:
            found.append(document)
            if len(found) == k:
                break
    return found


class Numpy:
    """A plain BLAS product, then the k largest."""

    threads_by = "limits"

    def single(self, query):
        scores = flat @ query
        if multi:
            scores = scores.reshape(count, layers).max(axis=1)
        top = numpy.argpartition(scores, -k)[-k:]
        return top[numpy.argsort(-scores[top])]

    def batch(self, asked):
        found = []
        # Blocks of queries that keep the scores within a few hundred MB.
        block = max(1, 50_000_000 // flat.shape[0])
        for begin in range(0, len(asked), block):
            scores = asked[begin : begin + block] @ flat.T
            if multi:
                scores = scores.reshape(len(scores), count, layers).max(axis=2)
            top = numpy.argpartition(scores, -k, axis=1)[:, -k:]
            order = numpy.argsort(-numpy.take_along_axis(scores, top, 1), axis=1)
            found.extend(numpy.take_along_axis(top, order, 1))
        return found


class Faiss:
    """IndexFlatIP; several vectors a document: more are fetched, and documents counted once."""

    threads_by = "faiss"
    fetch = 40

    def __init__(self):
        import faiss

        self.index = faiss.IndexFlatIP(dimension)
        self.index.add(flat)

    def single(self, query):
        rows = self.index.search(query[None], self.fetch if multi else k)[1][0]
        return documents_of(rows) if multi else rows

    def batch(self, asked):
        rows = self.index.search(asked, self.fetch if multi else k)[1]
        return [documents_of(row) for row in rows] if multi else rows


class QdrantEdge:
    """A shard without an index, asked for exact answers; MaxSim over several vectors."""

    threads_by = "affinity"

    def __init__(self):
        import qdrant_edge as edge

        self.edge = edge
        extra = {"multivector_config": edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)} if multi else {}
        config = edge.EdgeConfig(
            vectors={"v": edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Dot, **extra)}
        )
        path = os.path.join(folder.name, "qdrant")
        os.mkdir(path)
        self.shard = edge.EdgeShard.create(path, config)
        for begin in range(0, count, 5000):
            points = [
                edge.Point(row, {"v": vectors[row].tolist()}, {}) for row in range(begin, min(begin + 5000, count))
            ]
            self.shard.update(edge.UpdateOperation.upsert_points(points))
        self.shard.flush()

    def single(self, query):
        edge = self.edge
        request = edge.SearchRequest(query=self.asked(query), limit=k, params=edge.SearchParams(exact=True))
        return [point.id for point in self.shard.search(request)]

    def batch(self, asked):
        edge = self.edge
        params = edge.SearchParams(exact=True)
        requests = [edge.QueryRequest(query=self.asked(query), limit=k, params=params) for query in asked]
        found = self.shard.query_batch(edge.QueryBatchRequest(requests))
        return [[point.id for point in points] for points in found]

    def asked(self, query):
        values = query.tolist()
        return self.edge.Query.Nearest([values] if multi else values, using="v")


class Usearch:
    """Its search without an index over plain arrays."""

    threads_by = "argument"

    def single(self, query):
        return self.found(query[None], 1)[0]

    def batch(self, asked):
        return self.found(asked, self.threads)

    def found(self, asked, threads):
        from usearch.index import MetricKind, search

        keys = search(flat, asked, k, MetricKind.IP, exact=True, threads=threads).keys
        return numpy.atleast_2d(keys)


class LanceDb:
    """A table without an index."""

    threads_by = "affinity"

    def __init__(self):
        import lancedb
        import pyarrow

        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.reshape(-1)), dimension)
        table = pyarrow.table({"id": numpy.arange(count), "vector": values})
        self.table = lancedb.connect(os.path.join(folder.name, "lance")).create_table("v", table)

    def single(self, query):
        search = self.table.search(query).distance_type("dot").limit(k)
        return search.select(["id"]).to_arrow()["id"].to_pylist()

    def batch(self, asked):
        return [self.single(query) for query in asked]


class SqliteVec:
    """A vec0 table. Its distance is L2, by which unit vectors rank as by their inner product."""

    threads_by = "affinity"

    def __init__(self):
        # Python's own module is often built without extensions.
        import apsw
        import sqlite_vec

        self.connection = apsw.Connection(os.path.join(folder.name, "vec.sqlite"))
        self.connection.enable_load_extension(True)
        self.connection.load_extension(sqlite_vec.loadable_path())
        self.connection.execute(f"create virtual table v using vec0(embedding float[{dimension}])")
        rows = ((row, vectors[row].tobytes()) for row in range(count))
        with self.connection:
            self.connection.executemany("insert into v(rowid, embedding) values (?, ?)", rows)

    def single(self, query):
        asked = "select rowid from v where embedding match ? and k = ? order by distance"
        return [row for (row,) in self.connection.execute(asked, (query.tobytes(), k))]

    def batch(self, asked):
        return [self.single(query) for query in asked]


KINDS = {
    "numpy": Numpy, "faiss": Faiss, "qdrant-edge": QdrantEdge,
    "usearch": Usearch, "lancedb": LanceDb, "sqlite-vec": SqliteVec,
}
rivals = {}


def run(rival, way: str, threads: int, number: int) -> dict:
    asked = queries[:number]
    if rival.threads_by == "faiss":
        import faiss

        faiss.omp_set_num_threads(threads)
    rival.threads = threads
    if rival.threads_by == "affinity":
        os.sched_setaffinity(0, sorted(ALL)[:threads])
    with threadpool_limits(threads if rival.threads_by == "limits" else None):
        wall, cpu = time.perf_counter(), time.process_time()
        found = rival.batch(asked) if way == "batch" else [rival.single(query) for query in asked]
        spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    os.sched_setaffinity(0, ALL)
    return {**spent, "queries": number, "sum": int(sum(int(row) for rows in found for row in rows))}


def tell(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


ALL = os.sched_getaffinity(0)
tell({"documents": count, "layers": layers})
for line in sys.stdin:
    name, way, *numbers = line.split()
    if way == "load":
        begin = time.process_time()
        rivals[name] = KINDS[name]()
        tell({"cpu_s": time.process_time() - begin})
    elif way == "drop":
        rivals.pop(name, None)
        tell({})
    else:
        tell(run(rivals[name], way, int(numbers[0]), int(numbers[1])))
