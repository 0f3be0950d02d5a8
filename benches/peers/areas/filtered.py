"""Area `filtered`: exact search among the documents that pass a filter."""

import sys

import numpy

import surroundings
from measuring import Side, alternate, disk, figure, ratios

RIVALS = {"lancedb": "lancedb", "qdrant_edge": "qdrant-edge"}
FRACTIONS = ["1/1", "1/2", "1/10", "1/100", "1/1000"]


def measure(quick: bool) -> dict:
    program = surroundings.build_program("filtered")
    count, asked, runs = (20_000, 20, 3) if quick else (100_000, 50, 5)
    with disk() as folder:
        random = numpy.random.default_rng(6)
        for name, rows in [("vectors", count), ("queries", asked)]:
            made = random.standard_normal((rows, 384), dtype=numpy.float32)
            made /= numpy.linalg.norm(made, axis=1, keepdims=True)
            made.astype("<f4").tofile(folder / f"{name}.f32")
        surroundings.say(f"  filling three databases with {count:,} documents")
        ours = Side("ours", [program, folder, count])
        script = surroundings.PEERS / "rivals" / "filtered_search.py"
        others = [Side(name, [sys.executable, script, name, folder, count]) for name in RIVALS.values()]
        mine, *theirs = alternate([ours, *others], runs)
        for side in [ours, *others]:
            side.close()

    figures = {"filtered.count_ms": figure([run["count"]["cpu_s"] / asked * 1e3 for run in mine], "CPU-ms")}
    for fraction in FRACTIONS:
        name = fraction.replace("1/", "of_")
        own = [run[fraction] for run in mine]
        figures[f"filtered.{name}_ms"] = figure([run["cpu_s"] / asked * 1e3 for run in own], "CPU-ms per query")
        for key, results in zip(RIVALS, theirs):
            rival = [run[fraction] for run in results]
            # float32 and float64 sums may order two near scores differently; more than that is an error.
            apart = max(abs(a["sum"] - b["sum"]) / b["sum"] for a, b in zip(own, rival))
            if apart > 0.02:
                raise RuntimeError(f"{key} and we found different documents at {fraction}")
            figures[f"filtered.{name}_{key}_ms"] = figure([run["cpu_s"] / asked * 1e3 for run in rival], "CPU-ms per query")
            figures[f"filtered.{name}_vs_{key}"] = figure(ratios(rival, own, "cpu_s"), "times their CPU time over ours")
    for figures_of_size in figures.values():
        figures_of_size["documents"] = count
    return figures
