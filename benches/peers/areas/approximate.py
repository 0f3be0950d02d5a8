"""Area `approximate`: recall@10 against queries per CPU-second, beside the libraries of the field."""

import json
import shutil
import statistics
import sys
from pathlib import Path

import numpy

import surroundings
import vectors
from measuring import Side, disk, figure

RIVALS = surroundings.PEERS / "rivals" / "approximate.py"
FILTERED = surroundings.PEERS / "rivals" / "approximate_filtered.py"
FILTERED_RIVALS = ["qdrant-edge", "lancedb"]
RECALLS = [0.90, 0.95, 0.99]
ROUNDS = 3
# Rivals that take minutes a round have one.
SLOW = ["qdrant-edge"]
# Behind those of the rows, so measured once, for the table.
OTHERS = ["usearch-bf16", "scann", "qdrant-edge-sq8", "lancedb"]


def measure(quick: bool):
    """Yields figures, a set of vectors at a time."""
    multi = "multi_25k_x4" if quick else "multi_100k_x4"
    names = ["queries_1k", "real_100k", multi] + ([] if quick else ["real_1m"])
    vectors.ensure(names)
    program = surroundings.build_program("approximate")
    with disk() as folder:
        with Bench("100k", "real_100k", program, folder, ["symphonyqg", "symphonyqg8", "hnswlib", "faiss-hnsw-sq8"]) as bench:
            yield bench.speed(ROUNDS) | bench.size() | bench.target()
            single = [rate_at(bench.ours.ask("single"), 0.95) for _ in range(ROUNDS)]
            yield {"approximate.100k_single_per_cpu_s": figure(single, "queries per CPU-second, one a call, at recall 0.95")}
            yield norms(program, folder, effort_at(bench.curve, 0.95))
            single_curve, asked = bench.curve, [*bench.data, bench.truth]
            yield bench.filters(folder) | bench.latency() | bench.churn()
        if not quick:
            with Bench("1m", "real_1m", program, folder, ["symphonyqg", "symphonyqg8", "hnswlib", "faiss-hnsw-sq8"]) as bench:
                yield bench.speed(ROUNDS) | bench.size() | bench.target()
        with Bench("multi", multi, program, folder, ["qdrant-edge", "symphonyqg", "symphonyqg8", "hnswlib", "faiss-hnsw-sq8"]) as bench:
            yield bench.several(ROUNDS) | bench.target()
        yield others(single_curve, asked)


class Bench:
    """One set of vectors: our database and the rivals' indexes over it, which take turns."""

    def __init__(self, name: str, data: str, program: Path, folder: Path, rivals: list[str]):
        self.name, self.rivals = name, rivals
        self.database = folder / f"{name}.stratal"
        path, queries, truth = vectors.path(data), vectors.path("queries_1k"), folder / f"{name}.truth.npy"
        self.data, self.truth = [path, queries], truth
        numpy.save(truth, best_rows(numpy.load(path, mmap_mode="r"), numpy.load(queries)))
        surroundings.say(f"  {name}: building {', '.join(rivals)}")
        self.theirs = Side("rivals", [sys.executable, RIVALS, path, queries, truth, *rivals])
        surroundings.say(f"  {name}: building our index")
        self.ours = Side("stratal", [program, self.database, path, queries, truth])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ours.close()
        self.theirs.close()
        shutil.rmtree(self.database, ignore_errors=True)

    def rates(self, rounds: int) -> dict[str, list[dict[float, float]]]:
        """For each side and round, queries per CPU-second at each recall."""
        found: dict[str, list[dict[float, float]]] = {name: [] for name in ["stratal", *self.rivals]}
        for turn in range(rounds):
            for name in list(found) if turn % 2 == 0 else list(reversed(found)):
                if turn > 0 and name in SLOW:
                    continue
                curve = self.ours.ask("curve") if name == "stratal" else self.theirs.ask(name)
                if name == "stratal":
                    self.curve = curve
                found[name].append({recall: rate_at(curve, recall) for recall in RECALLS})
                told = ", ".join(f"{rate:,.0f} at {recall}" for recall, rate in found[name][-1].items())
                surroundings.say(f"  {self.name}, round {turn + 1}: {name} {told}")
        return found

    def speed(self, rounds: int) -> dict:
        found = self.rates(rounds)
        return {
            f"approximate.{self.name}_r{round(100 * recall)}_vs_best": over_best(found, self.rivals, recall)
            for recall in RECALLS
        }

    def several(self, rounds: int) -> dict:
        found = self.rates(rounds)
        return {
            "approximate.multi_r95_vs_multivector": over_best(found, ["qdrant-edge"], 0.95),
            "approximate.multi_r95_vs_dedupe": over_best(found, [name for name in self.rivals if name != "qdrant-edge"], 0.95),
        }

    def size(self) -> dict:
        ours, theirs = self.ours.ready, self.theirs.ready["symphonyqg"]
        each = theirs["bytes"] / ours["documents"]
        return {
            f"approximate.{self.name}_build_vs_symqg": {
                **figure([ours["build"]["cpu_s"] / theirs["build_cpu_s"]], "times SymphonyQG's CPU time"),
                "cpu_s": ours["build"]["cpu_s"], "symphonyqg_cpu_s": theirs["build_cpu_s"],
            },
            f"approximate.{self.name}_bytes_vs_symqg": {
                **figure([ours["bytes"] / each], "times SymphonyQG's bytes per document"),
                "bytes_per_document": ours["bytes"], "symphonyqg_bytes": each,
            },
        }

    def target(self) -> dict:
        reached = {str(round(target, 2)): recall for target, recall, _ in self.ours.ask("targets")}
        key = f"approximate.{self.name}_target95_recall"
        return {key: {**figure([reached["0.95"]], "recall@10 at recall_target(0.95)"), "targets": reached}}

    def filters(self, folder: Path) -> dict:
        rows = self.ours.ask("filters")
        figures = {
            "approximate.filter_recall_min": {
                **figure([min(row["recall"] for row in rows)], "recall@10, the least of all filters"), "filters": rows,
            },
            "approximate.filter_vs_exact_min": figure(
                [min(row["per_cpu_s"] / row["exact_per_cpu_s"] for row in rows)],
                "times the queries per CPU-second of an exact search of what passes, the least of all filters",
            ),
        }
        asked = json.dumps([parsed(row["filter"]) for row in rows])
        for name in FILTERED_RIVALS:
            place = folder / f"filtered-{name}"
            place.mkdir()
            surroundings.say(f"  {self.name}: {name} under filters")
            theirs = Side(name, [sys.executable, FILTERED, name, place, *self.data])
            told = theirs.ask(asked)
            theirs.close()
            shutil.rmtree(place)
            for row, rival in zip(rows, told):
                row[name] = rival
            key = f"approximate.filter_vs_{name.replace('-', '_')}_min"
            figures[key] = figure(
                [min(row["per_cpu_s"] / rival["per_cpu_s"] for row, rival in zip(rows, told))],
                "times the rival's queries per CPU-second at a recall of 0.95 or its best, the least of all filters",
            )
        return figures

    def latency(self) -> dict:
        told = self.ours.ask("latency")
        return {
            "approximate.churn_p99_ratio": {
                **figure([told["churn_p99_ms"] / told["quiet_p99_ms"]], "99th percentile of single searches, over its quiet value"),
                **told,
            }
        }

    def churn(self) -> dict:
        told = self.ours.ask("churn")
        return {
            "approximate.churn_recall_min": {
                **figure([told["recall"]], "recall@10 with a fifth of the documents changed"), "queries_per_cpu_s": told["per_cpu_s"],
            }
        }


def others(ours: list, asked: list) -> dict:
    """One round over 100,000 vectors of those that come nowhere near, beside our last curve there."""
    surroundings.say(f"  100k: building {', '.join(OTHERS)}")
    theirs = Side("others", [sys.executable, RIVALS, *asked, *OTHERS])
    curves = {"stratal": ours} | {name: theirs.ask(name) for name in OTHERS}
    theirs.close()
    rates = {name: {str(recall): rate_at(curve, recall) for recall in RECALLS} for name, curve in curves.items()}
    best = max(rates[name]["0.95"] for name in OTHERS)
    ratio = rates["stratal"]["0.95"] / best if best else float("inf")
    unit = "times the best of the others' queries per CPU-second, at recall 0.95"
    return {"approximate.100k_others": {**figure([ratio], unit), "queries_per_cpu_s": rates}}


def parsed(text: str) -> list:
    """A filter of one comparison as [field, least, below]."""
    field, sign, number = text.split()
    value = int(number)
    return [field, *{"<": (0, value), "=": (value, value + 1), ">": (value + 1, 1 << 40)}[sign]]


def norms(program: Path, folder: Path, effort: int) -> dict:
    """The same directions, norms spread log-normally (sigma 1), at the effort that is enough for unit vectors."""
    unit = numpy.load(vectors.path("real_100k"))
    random = numpy.random.default_rng(vectors.SEED)
    spread = (unit * numpy.exp(random.normal(size=(len(unit), 1)))).astype(numpy.float32)
    path, truth, queries = folder / "norms.npy", folder / "norms.truth.npy", vectors.path("queries_1k")
    numpy.save(path, spread)
    numpy.save(truth, best_rows(spread, numpy.load(queries)))
    ours = Side("stratal", [program, folder / "norms.stratal", path, queries, truth])
    at = {point[0]: point for point in ours.ask("curve")}
    reached = {str(round(target, 2)): recall for target, recall, _ in ours.ask("targets")}
    ours.close()
    return {
        "approximate.norms_recall": {
            **figure([at[effort][1]], "recall@10 at the effort that gives 0.95 on unit vectors"),
            "effort": effort, "queries_per_cpu_s": at[effort][2], "targets": reached,
        }
    }


def over_best(found: dict, rivals: list[str], recall: float) -> dict:
    """Our rate over the best rival's, round by round."""
    def middle(name: str) -> float:
        return statistics.median(rates[recall] for rates in found[name])

    best = max(rivals, key=middle)
    runs = [mine[recall] / theirs[recall] if theirs[recall] else float("inf") for mine, theirs in zip(found["stratal"], found[best])]
    return {
        **figure(runs, "times the best rival's queries per CPU-second"),
        "best": best, "queries_per_cpu_s": middle("stratal"), "rivals": {name: middle(name) for name in rivals},
    }


def rate_at(curve: list, recall: float) -> float:
    """Queries per second where a curve of (setting, recall, rate) crosses a recall, between its points; 0 if it does not."""
    before = None
    for _, reached, rate in curve:
        if reached >= recall:
            if before is None:
                return rate
            share = (recall - before[0]) / max(reached - before[0], 1e-9)
            return before[1] + share * (rate - before[1])
        before = (reached, rate)
    return 0.0


def effort_at(curve: list, recall: float) -> int:
    return next(setting for setting, reached, _ in curve if reached >= recall)


def best_rows(stored: numpy.ndarray, queries: numpy.ndarray) -> numpy.ndarray:
    """`[queries, 10]` of the documents of the largest inner products; of several vectors a document the best counts."""
    best = scores = None
    block = 50_000 // (stored.shape[1] if stored.ndim == 3 else 1)
    for start in range(0, len(stored), block):
        part = numpy.asarray(stored[start : start + block])
        part = (queries @ part.reshape(-1, part.shape[-1]).T).reshape(len(queries), len(part), -1).max(axis=2)
        rows = numpy.argpartition(-part, 9, axis=1)[:, :10]
        found = numpy.take_along_axis(part, rows, axis=1)
        rows = rows + start
        if best is not None:
            rows, found = numpy.hstack([best, rows]), numpy.hstack([scores, found])
        order = numpy.argsort(-found, axis=1, kind="stable")[:, :10]
        best, scores = numpy.take_along_axis(rows, order, axis=1), numpy.take_along_axis(found, order, axis=1)
    return best.astype(numpy.int64)
