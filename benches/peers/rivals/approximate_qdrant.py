"""qdrant-edge's approximate indexes: a shard with HNSW, asked one query at a time."""

import os
import tempfile

import numpy


class Qdrant:
    def __init__(self, edge, vectors, ef_construct, **params):
        """`vectors` says what is kept of each, `params` how searches go about it."""
        self.edge, self.params = edge, params
        self.folder = tempfile.TemporaryDirectory(dir=os.environ.get("STRATAL_SCRATCH"))
        index = edge.HnswIndexConfig(m=16, ef_construct=ef_construct, full_scan_threshold=10)
        self.shard = edge.EdgeShard.create(self.folder.name, edge.EdgeConfig(vectors={"v": vectors}, hnsw_config=index))

    def build(self, vectors):
        edge = self.edge
        for begin in range(0, len(vectors), 5000):
            rows = range(begin, min(begin + 5000, len(vectors)))
            points = [edge.Point(row, {"v": vectors[row].tolist()}, {}) for row in rows]
            self.shard.update(edge.UpdateOperation.upsert_points(points))
        self.shard.optimize()
        self.shard.flush()

    def search(self, queries, k, setting):
        edge = self.edge
        params = edge.SearchParams(hnsw_ef=setting, **self.params)
        found = []
        for query in queries:
            asked = edge.Query.Nearest([query.tolist()] if self.several else query.tolist(), using="v")
            found.append([point.id for point in self.shard.search(edge.SearchRequest(query=asked, limit=k, params=params))])
        return numpy.array(found), None

    def bytes(self):
        return folder_bytes(self.folder.name)


class QdrantEdge(Qdrant):
    """Over the best of several vectors a document."""

    several = True

    def __init__(self, dimension):
        import qdrant_edge as edge

        best = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
        vectors = edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Dot, multivector_config=best)
        super().__init__(edge, vectors, ef_construct=100)


class QdrantSq8(Qdrant):
    """Over vectors in 8 bits, the best scored from the vectors."""

    several = False

    def __init__(self, dimension):
        import qdrant_edge as edge

        coded = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, always_ram=True)
        vectors = edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Dot, quantization_config=coded)
        scored = edge.QuantizationSearchParams(rescore=True, oversampling=2.0)
        super().__init__(edge, vectors, ef_construct=200, quantization=scored)


def folder_bytes(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)
