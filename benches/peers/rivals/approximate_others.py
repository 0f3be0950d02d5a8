"""Rivals of the area `approximate` that are measured once, for the table, over 100,000 single vectors."""

import os
import tempfile

import numpy

from approximate_qdrant import folder_bytes


class Usearch:
    """HNSW over vectors in bf16."""

    def __init__(self, dimension):
        from usearch.index import Index

        self.index = Index(ndim=dimension, metric="ip", dtype="bf16", connectivity=16, expansion_add=200)

    def build(self, vectors):
        self.index.add(numpy.arange(len(vectors)), vectors, threads=2)

    def search(self, queries, k, setting):
        self.index.expansion_search = setting
        return self.index.search(queries, k, threads=1).keys.astype(numpy.int64), None

    def bytes(self):
        return self.index.serialized_length


class Scann:
    """A tree of a thousand leaves, codes of two dimensions, and the vectors for the best: the authors' usual choice."""

    leaves = 1000

    def __init__(self, dimension):
        self.dimension = dimension

    def build(self, vectors):
        import scann

        builder = scann.scann_ops_pybind.builder(vectors, 10, "dot_product").set_n_training_threads(2)
        builder = builder.tree(self.leaves, self.leaves // 10, training_sample_size=len(vectors))
        self.index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
        self.count = len(vectors)

    def search(self, queries, k, setting):
        found, _ = self.index.search_batched(
            queries, final_num_neighbors=k, pre_reorder_num_neighbors=4 * setting, leaves_to_search=setting
        )
        return found.astype(numpy.int64), None

    def bytes(self):
        # Vectors, half a byte for two dimensions, and a number.
        return self.count * (4 * self.dimension + self.dimension // 4 + 4)


class LanceDb:
    """One partition with HNSW over vectors in 8 bits, the best scored from the vectors."""

    def __init__(self, dimension):
        self.dimension = dimension
        self.folder = tempfile.TemporaryDirectory(dir=os.environ.get("STRATAL_SCRATCH"))

    def build(self, vectors):
        import lancedb
        import pyarrow

        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), self.dimension)
        table = pyarrow.table({"id": numpy.arange(len(vectors)), "vector": values})
        self.table = lancedb.connect(self.folder.name).create_table("v", table)
        self.table.create_index(metric="dot", index_type="IVF_HNSW_SQ", num_partitions=1)

    def search(self, queries, k, setting):
        def one(query):
            search = self.table.search(query).distance_type("dot").nprobes(1).ef(max(setting, 2 * k)).refine_factor(2)
            return search.limit(k).select(["id", "_distance"]).to_arrow()["id"].to_pylist()

        return numpy.array([one(query) for query in queries]), None

    def bytes(self):
        return folder_bytes(self.folder.name)
