"""Exact search under filters by rivals: `filtered_search.py RIVAL FOLDER COUNT`.

Fills the rival from FOLDER/vectors.f32 and answers, for each line `run`, all of FOLDER/queries.f32
under each filter, on one core: wall and CPU seconds and the sum of the ids found.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy

DIMENSION = 384
K = 10
ONE_OF = [1, 2, 10, 100, 1000]

folder, count = Path(sys.argv[2]), int(sys.argv[3])
vectors = numpy.fromfile(folder / "vectors.f32", dtype="<f4").reshape(-1, DIMENSION)
queries = numpy.fromfile(folder / "queries.f32", dtype="<f4").reshape(-1, DIMENSION)
numbers = numpy.arange(count) * 7919 % count


class LanceDb:
    """A table with a scalar index (BTREE) on the number, filtered before the flat scan."""

    def __init__(self):
        import lancedb
        import pyarrow

        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), DIMENSION)
        table = pyarrow.table({"id": numpy.arange(count), "n": numbers, "vector": values})
        self.table = lancedb.connect(str(folder / "lance")).create_table("v", table)
        self.table.create_scalar_index("n", index_type="BTREE")

    def ask(self, query, below):
        search = self.table.search(query).distance_type("dot").where(f"n < {below}", prefilter=True)
        return search.limit(K).select(["id"]).to_arrow()["id"].to_pylist()


class QdrantEdge:
    """A shard with an index of the number and none of the vectors, asked for exact answers."""

    def __init__(self):
        import qdrant_edge as edge

        self.edge = edge
        config = edge.EdgeConfig(vectors={"v": edge.EdgeVectorParams(size=DIMENSION, distance=edge.Distance.Dot)})
        (folder / "qdrant").mkdir()
        self.shard = edge.EdgeShard.create(str(folder / "qdrant"), config)
        update, schema = edge.UpdateOperation, edge.PayloadSchemaType.Integer
        self.shard.update(update.create_field_index("n", schema))
        for begin in range(0, count, 5000):
            rows = range(begin, min(begin + 5000, count))
            points = [edge.Point(row, {"v": vectors[row].tolist()}, {"n": int(numbers[row])}) for row in rows]
            self.shard.update(update.upsert_points(points))
        self.shard.flush()

    def ask(self, query, below):
        edge = self.edge
        passes = edge.Filter(must=[edge.FieldCondition(key="n", range=edge.RangeFloat(lt=float(below)))])
        nearest = edge.Query.Nearest(query.tolist(), using="v")
        request = edge.SearchRequest(query=nearest, limit=K, filter=passes, params=edge.SearchParams(exact=True))
        return [point.id for point in self.shard.search(request)]


def run() -> dict:
    answer = {}
    for one_of in ONE_OF:
        wall, cpu = time.perf_counter(), time.process_time()
        found = [rival.ask(query, count // one_of) for query in queries]
        spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        answer[f"1/{one_of}"] = {**spent, "sum": int(sum(int(row) for rows in found for row in rows))}
    return answer


rival = {"lancedb": LanceDb, "qdrant-edge": QdrantEdge}[sys.argv[1]]()
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
print(json.dumps({"documents": count}), flush=True)
for line in sys.stdin:
    print(json.dumps(run()), flush=True)
