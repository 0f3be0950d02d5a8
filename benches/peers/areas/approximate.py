"""Area `approximate`: recall@10 against queries per CPU-second, beside the libraries of the field.

The vectors are those of real sentences and questions: STRATAL_VECTORS names their folder, with real_100k.npy,
real_1m.npy and queries_1k.npy. Without the million its keys are left out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import surroundings
from measuring import figure, output_of

RIVAL = surroundings.PEERS / "rivals" / "approximate.py"
RECALLS = [0.90, 0.95, 0.99]


def measure(quick: bool) -> dict:
    folder = Path(os.environ.get("STRATAL_VECTORS", surroundings.cache("vectors")))
    queries = folder / "queries_1k.npy"
    if not (folder / "real_100k.npy").exists() or not queries.exists():
        raise surroundings.Missing(f"{folder} holds no real_100k.npy and queries_1k.npy: set STRATAL_VECTORS")
    ours = surroundings.build_program("approximate")
    figures = compared("100k", ours, folder / "real_100k.npy", queries,
                       ["symphonyqg", "symphonyqg8", "hnswlib", "faiss-hnsw-sq8"], "more")
    if not quick and (folder / "real_1m.npy").exists():
        figures |= compared("1m", ours, folder / "real_1m.npy", queries, ["symphonyqg"], "curve")
    return figures


def compared(name: str, ours: Path, vectors: Path, queries: Path, rivals: list[str], extent: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.npy"
        subprocess.run([sys.executable, "-c", _TRUTH, vectors, queries, truth], check=True)
        curves, builds = {}, {}
        for rival in rivals:
            surroundings.say(f"  {name}: {rival}")
            answer = output_of([sys.executable, RIVAL, rival, vectors, queries, truth])
            curves[rival], builds[rival] = answer["curve"], answer
        surroundings.say(f"  {name}: stratal")
        answer = output_of([ours, Path(folder) / "db", vectors, queries, truth, extent])
        shutil.rmtree(Path(folder) / "db")
    figures = {}
    for recall in RECALLS:
        mine = rate_at(answer["curve"], recall)
        theirs = {rival: rate_at(curve, recall) for rival, curve in curves.items()}
        best = max(theirs.values())
        key = f"approximate.{name}_r{round(recall * 100)}_vs_best"
        figures[key] = {
            **figure([mine / best], "times the best rival's queries per CPU-second"),
            "queries_per_cpu_s": mine, "rivals": theirs,
        }
    symqg = builds["symphonyqg"]
    figures[f"approximate.{name}_build_vs_symqg"] = {
        **figure([answer["build"]["cpu_s"] / symqg["build_cpu_s"]], "times SymphonyQG's CPU time"),
        "cpu_s": answer["build"]["cpu_s"], "symphonyqg_cpu_s": symqg["build_cpu_s"],
    }
    each = symqg["bytes"] / answer["documents"]
    figures[f"approximate.{name}_bytes_vs_symqg"] = {
        **figure([answer["bytes"] / each], "times SymphonyQG's bytes per document"),
        "bytes_per_document": answer["bytes"], "symphonyqg_bytes": each,
    }
    targets = {str(round(target, 2)): reached for target, reached, _ in answer["targets"]}
    figures[f"approximate.{name}_target95_recall"] = {
        **figure([targets["0.95"]], "recall@10 at recall_target(0.95)"), "targets": targets,
    }
    if "filters" in answer:
        figures["approximate.filter_recall_min"] = {
            **figure([min(row["recall"] for row in answer["filters"])], "recall@10, the least of all filters"),
            "filters": answer["filters"],
        }
        figures["approximate.churn_recall_min"] = {
            **figure([answer["churn"]["recall"]], "recall@10 with a fifth of the documents changed"),
            "queries_per_cpu_s": answer["churn"]["per_cpu_s"],
        }
    return figures


def rate_at(curve: list, recall: float) -> float:
    """Queries per second where a curve of (setting, recall, rate) crosses a recall, between its points."""
    before = None
    for _, reached, rate in curve:
        if reached >= recall:
            if before is None:
                return rate
            share = (recall - before[0]) / max(reached - before[0], 1e-9)
            return before[1] + share * (rate - before[1])
        before = (reached, rate)
    return 0.0


_TRUTH = """
import sys, numpy
vectors, queries = numpy.load(sys.argv[1], mmap_mode='r'), numpy.load(sys.argv[2])
best = scores = None
for start in range(0, len(vectors), 50_000):
    part = queries @ numpy.asarray(vectors[start:start + 50_000]).T
    rows = numpy.argpartition(-part, 9, axis=1)[:, :10]
    found = numpy.take_along_axis(part, rows, axis=1)
    rows = rows + start
    if best is not None:
        rows, found = numpy.hstack([best, rows]), numpy.hstack([scores, found])
    order = numpy.argsort(-found, axis=1, kind='stable')[:, :10]
    best, scores = numpy.take_along_axis(rows, order, axis=1), numpy.take_along_axis(found, order, axis=1)
numpy.save(sys.argv[3], best.astype(numpy.int64))
"""
