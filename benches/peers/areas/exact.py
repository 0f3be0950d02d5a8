"""Area `exact`: exact maximum inner products against FAISS, a BLAS product and qdrant-edge."""

import math
import os
import statistics
import sys

import surroundings
import vectors
from measuring import Side, figure
from surroundings import say

K = 10
RIVALS = ["faiss", "numpy", "qdrant-edge"]
# Far behind these, so measured once, for the table.
OTHERS = ["usearch", "lancedb", "sqlite-vec"]


def measure(quick: bool) -> dict:
    several = "multi_25k_x4" if quick else "multi_100k_x4"
    vectors.ensure(["queries_10k", "queries_1k", "real_100k", "cls_100k", several] + ([] if quick else ["real_1m"]))
    program = surroundings.build_program("exact")
    rounds = 3 if quick else 5
    figures = {}
    figures |= flat("100k", "real_100k", program, rounds, queries=50 if quick else 200, batch=1000)
    if not quick:
        figures |= flat("1m", "real_1m", program, 3, queries=20, batch=1000)
    figures |= others(program, queries=10 if quick else 40)
    figures |= multi(program, several, rounds, queries=10 if quick else 40)
    figures |= wrong_ids(program, 500 if quick else 10_000)
    return figures


class Bench:
    """One set of vectors, ours and the rivals' processes on it."""

    def __init__(self, program, data, rivals: list[str]):
        given = [data, vectors.path("queries_1k"), K]
        self.ours = Side("stratal", [program, *given])
        script = surroundings.PEERS / "rivals" / "exact_search.py"
        self.theirs = Side("rivals", [sys.executable, script, *given])
        for name in rivals:
            say(f"  loading {name}: {self.theirs.ask(f'{name} load')}")

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def turns(self, way: str, threads: int, counts: dict[str, int], rounds: int) -> dict[str, list[dict]]:
        """By turns; the first round warms and is not kept."""
        found: dict[str, list[dict]] = {name: [] for name in counts}
        for turn in range(rounds + 1):
            names = list(counts) if turn % 2 else list(reversed(counts))
            for name in names:
                asked = f"{way} {threads} {counts[name]}"
                told = self.ours.ask(asked) if name == "stratal" else self.theirs.ask(f"{name} {asked}")
                if turn:
                    found[name].append(told)
        for name, runs in found.items():
            say(f"  {way}, {threads} threads, {name}: {1000 * statistics.median(each(runs, 'cpu_s')):.4g} CPU-ms a query")
        return found


def each(runs: list[dict], field: str) -> list[float]:
    return [run[field] / run["queries"] for run in runs]


def over_best(key: str, found: dict[str, list[dict]], threads: int) -> dict:
    """CPU time a query of the best rival over ours, run by run; wall time beside it."""
    rivals = [name for name in found if name != "stratal"]
    best = min(rivals, key=lambda name: statistics.median(each(found[name], "cpu_s")))
    ours, theirs = found["stratal"], found[best]

    def times(field: str) -> list[float]:
        return [b / a for a, b in zip(each(ours, field), each(theirs, field))]

    counted = {name: ours[0][name] for name in ("swept", "left", "multiplied", "scored") if name in ours[0]}
    return {
        key: {
            **figure(times("cpu_s"), f"times less CPU time than the best rival, {threads} threads"),
            "best": best,
            "by_wall": figure(times("wall_s"), "times")["value"],
            "cpu_ms_a_query": {
                name: figure([1000 * t for t in each(runs, "cpu_s")], "ms")["value"] for name, runs in found.items()
            },
            "a_query": counted,
        }
    }


def flat(name: str, data: str, program, rounds: int, queries: int, batch: int) -> dict:
    say(f"{name}:")
    bench = Bench(program, vectors.path(data), RIVALS)
    documents, dimension, head = bench.ours.ready["documents"], vectors.DIMENSION, bench.ours.ready["head"]
    single = {side: queries for side in ["stratal", *RIVALS]}
    one = bench.turns("single", 1, single, rounds)
    figures = over_best(f"exact.single_{name}_vs_best", one, 1)
    if name == "1m":
        figures |= over_best(f"exact.single_{name}_2t_vs_best", bench.turns("single", 2, single, rounds), 2)
    # qdrant-edge has no batches and takes them one by one; a few tell its rate.
    many = {"stratal": batch, "faiss": batch, "numpy": batch, "qdrant-edge": queries // 2}
    figures |= over_best(f"exact.batch_{name}_vs_best", bench.turns("batch", 2, many, rounds), 2)

    # What one query reads of all rows: the high halves of heads with their factors, over the time it takes.
    bytes_read = documents * (head / 2 + (12 if head == dimension else 16))
    read = [bench.ours.ask("bandwidth 1") for _ in range(rounds)]
    figures |= {
        f"exact.scanned_components_{name}": figure([head], f"of {dimension}"),
        f"exact.single_{name}_gb_per_s": figure(
            [bytes_read / t / 1e9 for t in each(one["stratal"], "cpu_s")], "GB of codes a CPU-second, one thread"
        ),
        f"exact.read_{name}_gb_per_s": figure([r["bytes"] / r["cpu_s"] / 1e9 for r in read], "GB a CPU-second, reading alone"),
        f"exact.batch_{name}_gmac_per_s": figure(
            [documents * dimension / t / 1e9 for t in each_of(figures, name)], "billions of multiply-adds a CPU-second"
        ),
    }
    peak = [bench.ours.ask("arithmetic") for _ in range(rounds)]
    figures["exact.peak_gmac_per_s"] = {
        **figure([p["multiply_adds"] / p["cpu_s"] / 1e9 for p in peak], "billions of 8-bit multiply-adds a CPU-second, registers alone"),
        "instructions": peak[0]["instructions"],
    }
    bench.close()
    return figures


def others(program, queries: int) -> dict:
    """The rivals that come nowhere near, over 100,000 vectors."""
    bench = Bench(program, vectors.path("real_100k"), OTHERS)
    found = bench.turns("single", 1, dict.fromkeys(["stratal", *OTHERS], queries), 1)
    bench.close()
    return over_best("exact.single_100k_others", found, 1)


def each_of(figures: dict, name: str) -> list[float]:
    return [figures[f"exact.batch_{name}_vs_best"]["cpu_ms_a_query"]["stratal"] / 1000]


def multi(program, several: str, rounds: int, queries: int) -> dict:
    say("four vectors a document:")
    bench = Bench(program, vectors.path(several), ["faiss", "qdrant-edge"])
    found = bench.turns("single", 1, {"stratal": queries, "faiss": queries, "qdrant-edge": queries}, rounds)
    figures = over_best("exact.multi_vs_multivector", {s: found[s] for s in ("stratal", "qdrant-edge")}, 1)
    figures |= over_best("exact.multi_vs_faiss", {s: found[s] for s in ("stratal", "faiss")}, 1)
    ratios: dict[int, list[float]] = {1: [], 2: [], 3: []}
    bench.ours.ask(f"layers 4 {queries}")
    for _ in range(rounds):
        times = {j: bench.ours.ask(f"layers {j} {queries}")["cpu_s"] for j in (1, 2, 3, 4)}
        for j, runs in ratios.items():
            runs.append(times[j] / (times[4] * j / 4))
    bench.close()
    worst = max(ratios, key=lambda j: statistics.median(ratios[j]))
    return figures | {
        "exact.layers_cost_ratio": {
            **figure(ratios[worst], "time for j layers over j/4 of the time for 4, the worst j"),
            "layers": {str(j): figure(runs, "")["value"] for j, runs in ratios.items()},
        }
    }


def wrong_ids(program, count: int) -> dict:
    """Answers that differ from a float64 brute force, equal scores by id."""
    import numpy

    asked = numpy.load(vectors.path("queries_10k"))[:count]
    unit = numpy.load(vectors.path("real_100k"))
    random = numpy.random.default_rng(vectors.SEED)
    spread = (unit * numpy.exp(random.normal(size=(len(unit), 1)))).astype(numpy.float32)
    sets = {"unit": unit, "log_normal_norms": spread, "raw_cls": numpy.load(vectors.path("cls_100k"))}
    wrong, details = 0, {}
    surroundings.TARGET.mkdir(parents=True, exist_ok=True)
    for name, stored in sets.items():
        say(f"wrong ids, {name}:")
        path = surroundings.TARGET / f"exact-{os.getpid()}-{name}.npy"
        numpy.save(path, stored)
        try:
            side = Side("stratal", [program, path, vectors.path("queries_10k"), K])
            ours = side.ask(f"answers {count}")["rows"]
            side.close()
        finally:
            path.unlink()
        differing = sum(
            mine != right for mine, right in zip(ours, brute_force(numpy, stored, asked, ours), strict=True)
        )
        details[name] = {"queries": count, "wrong": differing}
        say(f"  {differing} of {count}")
        wrong += differing
    return {"exact.wrong_ids": {**figure([wrong], "queries with a differing id or order"), "sets": details}}


def brute_force(numpy, stored, asked, ours):
    """The best K of each query in float64; where the order of BLAS's sums decides, by exactly rounded sums."""
    wide = stored.astype(numpy.float64)
    for begin in range(0, len(asked), 200):
        scores = asked[begin : begin + 200].astype(numpy.float64) @ wide.T
        best = numpy.argpartition(scores, -K, axis=1)[:, -K:]
        for place, row in enumerate(best):
            found = sorted(row.tolist(), key=lambda at: (-scores[place, at], at))
            if found != ours[begin + place]:
                query = asked[begin + place].astype(numpy.float64)
                near = numpy.flatnonzero(scores[place] >= scores[place, found[-1]] - 1e-9 * abs(scores[place, found[-1]]))
                sums = {at: math.fsum((query * wide[at]).tolist()) for at in near.tolist()}
                found = sorted(sums, key=lambda at: (-sums[at], at))[:K]
            yield found
