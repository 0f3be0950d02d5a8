"""Rivals' approximate search under filters: `approximate_filtered.py RIVAL FOLDER vectors.npy queries.npy`.

Fills the rival from the vectors [n, D], with the fields that programs/src/bin/approximate.rs gives its documents, and
builds its indexes in FOLDER. Writes a line, and answers each line, a list of filters [field, least, below] (`least <=
field < below`) in JSON, with a list of {"setting", "recall", "per_cpu_s"}: the first setting that finds nineteen in twenty
of what an exact search of the documents that pass finds, or the last one tried. One query a call, all on one core.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy

K = 10
ENOUGH = 0.95

folder = Path(sys.argv[2])
vectors = numpy.load(sys.argv[3])
# LanceDB takes milliseconds for each.
queries = numpy.load(sys.argv[4])[:200]
count, dimension = vectors.shape
ids = numpy.arange(count, dtype=numpy.uint64)
fields = {
    "chance": (ids * numpy.uint64(0x9E37_79B9_7F4A_7C15) >> numpy.uint64(40)) % numpy.uint64(1000),
    "rank": numpy.clip(vectors[:, 0] + numpy.float32(0.15), 0, numpy.float32(0.3)) * numpy.float32(3333),
}
fields = {name: values.astype(numpy.int64) for name, values in fields.items()}


class LanceDb:
    """A table with HNSW over scalar-quantised vectors, and a scalar index (BTREE) on each field."""

    settings = [(ef, refine) for ef in (32, 64, 128, 256, 512) for refine in (1, 4)]

    def __init__(self):
        import lancedb
        import pyarrow

        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), dimension)
        table = pyarrow.table({"id": numpy.arange(count), **fields, "vector": values})
        self.table = lancedb.connect(str(folder / "lance")).create_table("v", table)
        for name in fields:
            self.table.create_scalar_index(name, index_type="BTREE")
        self.table.create_index(metric="dot", index_type="IVF_HNSW_SQ", num_partitions=1)

    def ask(self, query, name, least, below, setting):
        ef, refine = setting
        search = self.table.search(query).distance_type("dot").nprobes(1).ef(ef).refine_factor(refine)
        search = search.where(f"{name} >= {least} AND {name} < {below}", prefilter=True)
        return search.limit(K).select(["id", "_distance"]).to_arrow()["id"].to_pylist()


class QdrantEdge:
    """A shard with HNSW, which knows the fields: they are indexed before it is built."""

    settings = [16, 32, 64, 128, 256, 512]

    def __init__(self):
        import qdrant_edge as edge

        self.edge = edge
        config = edge.EdgeConfig(
            vectors={"v": edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Dot)},
            hnsw_config=edge.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10),
        )
        (folder / "qdrant").mkdir()
        self.shard = edge.EdgeShard.create(str(folder / "qdrant"), config)
        update, schema = edge.UpdateOperation, edge.PayloadSchemaType.Integer
        for name in fields:
            self.shard.update(update.create_field_index(name, schema))
        for begin in range(0, count, 5000):
            rows = range(begin, min(begin + 5000, count))
            payload = lambda row: {name: int(values[row]) for name, values in fields.items()}
            points = [edge.Point(row, {"v": vectors[row].tolist()}, payload(row)) for row in rows]
            self.shard.update(update.upsert_points(points))
        self.shard.optimize()
        self.shard.flush()

    def ask(self, query, name, least, below, setting):
        edge = self.edge
        field = edge.FieldCondition(key=name, range=edge.RangeFloat(gte=float(least), lt=float(below)))
        nearest = edge.Query.Nearest(query.tolist(), using="v")
        params = edge.SearchParams(hnsw_ef=setting)
        request = edge.SearchRequest(query=nearest, limit=K, filter=edge.Filter(must=[field]), params=params)
        return [point.id for point in self.shard.search(request)]


def answer(name, least, below):
    passing = numpy.flatnonzero((fields[name] >= least) & (fields[name] < below))
    scores = queries @ vectors[passing].T
    truth = passing[numpy.argsort(-scores, axis=1, kind="stable")[:, :K]]
    told = {}
    for setting in rival.settings:
        begun = time.process_time()
        found = [rival.ask(query, name, least, below, setting) for query in queries]
        rate = len(queries) / (time.process_time() - begun)
        met = sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, truth))
        told = {"setting": setting, "recall": met / truth.size, "per_cpu_s": rate}
        if told["recall"] >= ENOUGH:
            break
    return told


rival = {"lancedb": LanceDb, "qdrant-edge": QdrantEdge}[sys.argv[1]]()
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
print(json.dumps({"documents": count}), flush=True)
for line in sys.stdin:
    print(json.dumps([answer(*asked) for asked in json.loads(line)]), flush=True)
