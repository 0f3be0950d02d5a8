"""Area `mlr`: what Multi-layer Representations and other training bring, on 20,000 passages and held-out questions.

Every run is trained on `train`, looked at on `dev`, and reported once on `test`. Runs are kept in the folder
STRATAL_RUNS (else beside the build) and not trained again; one that was interrupted goes on from its checkpoint.
"""

import json
import os
import statistics
import subprocess
from pathlib import Path

import surroundings
from measuring import figure

# Steps of each arm of the pair, and of the warm start that both have.
STEPS = 46
# What all runs share. No gradient caching: a chunk holds the whole batch.
BUDGET = ["--precision", "bf16", "--batch", "64", "--chunk", "192", "--negatives", "mined", "--hard-negatives", "1", "--warm-up", "0.1"]
RAW_CLS = ["--pooling", "cls", "--normalize", "false", "--tau", "1", "--learning-rate", "5e-5"]
SEEDS = [0, 1, 2]

# The best single vector: mean pooling, one epoch.
BEST = "mean-dual-encoder"
BEST_ARGUMENTS = ["--tau", "0.05", "--learning-rate", "3e-5", "--epochs", "1", "--every", "46", "--seed", "0"]
# Once more over the questions, with hard negatives that the first epoch's encoder finds.
SECOND = "mean-dual-encoder-2"
SECOND_ARGUMENTS = [
    "--tau", "0.05", "--learning-rate", "2e-5", "--epochs", "1", "--every", "46", "--select-by", "reciprocal-rank", "--seed", "1",
]
# With words, by ranks and by scores; the weights are chosen on dev.
MIXED = ["--search", "dense", "--search", "bm25", "--search", "fused"]
for weight in (0.3, 0.4, 0.5, 0.6, 0.7):
    MIXED += ["--fuse", f"dense:{weight},bm25:{round(1 - weight, 1)}"]

# By the vectors of all tokens, which put the best of BM25 in order.
LATE = ["--search", "tokens", "--candidates", "bm25", "--rerank", "30"]
for weight in (0.5, 0.7):
    LATE += ["--fuse", f"tokens:{weight},bm25:{round(1 - weight, 1)}"]

# Both arms alike: `[CLS]`, the same start, in which layer 5 has learnt what a passage says, the same steps.
WARM = "warm"
WARM_ARGUMENTS = ["--method", "mean-over-layers", "--encoder-layers", "6,5"]
PAIR = {
    "dual-encoder": ["--method", "dual-encoder", "--encoder-layers", "6"],
    "self-contrastive": ["--method", "self-contrastive", "--encoder-layers", "6,5", "--lambda", "0.1"],
}


def measure(quick: bool) -> dict:
    if quick:
        raise surroundings.Missing("this area trains for hours; there is no quick form of it")
    return figures_of(Runs().table())


class Runs:
    """Encoders that were trained, and what they were found to be worth."""

    def __init__(self):
        self.folder = Path(os.environ.get("STRATAL_RUNS", surroundings.TARGET / "mlr")).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stratal = surroundings.build_command()
        self.database = self.folder / "passages.stratal"
        self.environment = {**os.environ, "STRATAL_MODEL": str(surroundings.model())}
        if not (self.database / "MANIFEST").exists():
            self.run("add", self.database, surroundings.DATA / "qa" / "corpus.jsonl.gz", "--collection", "qa", into="add")

    def table(self) -> dict:
        """Every row: for dev and for test what was found."""
        rows = {"zero-shot": self.evaluated("zero-shot", surroundings.model(), [])["dense"]}
        first = self.trained(BEST, BEST_ARGUMENTS)
        second = self.trained(SECOND, [*SECOND_ARGUMENTS, "--model", str(first)])
        for name, model in ((BEST, first), (SECOND, second)):
            found = self.evaluated(name, model, MIXED)
            rows["BM25"] = found.pop("bm25")
            rows[name] = found.pop("dense")
            rows |= {f"{name}, {way}": figures for way, figures in found.items()}
        rows |= {f"{SECOND}, {way}": figures for way, figures in self.evaluated(f"{SECOND}-late", second, LATE).items()}
        steps = ["--steps", str(STEPS)]
        warm = self.trained(WARM, [*RAW_CLS, *WARM_ARGUMENTS, *steps, "--seed", "0"])
        for seed in SEEDS:
            for arm, arguments in PAIR.items():
                name = f"{arm}-s{seed}"
                model = self.trained(name, [*RAW_CLS, *arguments, *steps, "--seed", str(seed), "--model", str(warm)])
                rows[name] = self.evaluated(name, model, [])["dense"]
        return rows

    def run(self, *arguments, into: str) -> None:
        """Runs the command; what it prints lies in a file of that name only when it has ended well."""
        part = self.folder / f"{into}.part"
        with part.open("w") as out:
            command = [str(self.stratal), *map(str, arguments), "--json"]
            subprocess.run(command, check=True, stdout=out, env=self.environment)
        part.rename(self.folder / f"{into}.json")

    def model(self, name: str) -> Path:
        return self.folder / f"{name}.model"

    def trained(self, name: str, arguments: list[str]) -> Path:
        model = self.model(name)
        if not (self.folder / f"{name}.train.json").exists():
            surroundings.say(f"  training {name}")
            self.run(
                "train", "--database", self.database, "--questions", questions("train"), "--validate", questions("dev"),
                *BUDGET, *arguments, "--checkpoints", self.folder / f"{name}.checkpoints",
                "--curve", self.folder / f"{name}.svg", "--output", model, into=f"{name}.train",
            )
        return model

    def evaluated(self, name: str, model: Path, arguments: list[str]) -> dict:
        """For each way of searching what it finds of dev and of test."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            surroundings.say(f"  evaluating {name}")
            self.run(
                "evaluate", "--database", self.database, "--questions", questions("dev"), "--also", questions("test"),
                "--model", model, *arguments, into=name,
            )
        found = json.loads(file.read_text())
        return {
            dev["search"]: {"dev": row(dev["figures"]), "test": row(test["figures"])}
            for dev, test in zip(found["searches"], found["also"][0]["searches"])
        }


def questions(name: str) -> Path:
    return surroundings.DATA / "qa" / f"{name}.jsonl.gz"


def row(figures: dict) -> dict:
    return {"top_1_5_20_100": [round(100 * share, 2) for share in figures["top"]], "mrr_10": round(figures["mrr_10"], 4)}


def top_5(rows: dict) -> float:
    return rows["test"]["top_1_5_20_100"][1]


def figures_of(table: dict) -> dict:
    unit = "% of test questions with the gold passage among the first 5"
    of_arm = {arm: [top_5(table[f"{arm}-s{seed}"]) for seed in SEEDS] for arm in PAIR}
    gains = [b - a for a, b in zip(*of_arm.values())]
    singles = {name: rows for name, rows in table.items() if name != "BM25" and "," not in name}
    # Chosen on dev, told on test.
    best_single = max(singles, key=lambda name: singles[name]["dev"]["top_1_5_20_100"][1])
    best = max(table, key=lambda name: table[name]["dev"]["top_1_5_20_100"][1])
    zero = top_5(table["zero-shot"])
    return {
        "mlr.zero_shot_top5": figure([zero], unit),
        "mlr.bm25_top5": figure([top_5(table["BM25"])], unit),
        "mlr.de_top5": figure(of_arm["dual-encoder"], unit),
        "mlr.self_contrastive_top5": figure(of_arm["self-contrastive"], unit),
        "mlr.self_contrastive_gain": {
            **figure(gains, "points, seed by seed"), "spread": round(statistics.stdev(gains), 3),
        },
        "mlr.best_single_vector_top5": {
            **figure([top_5(table[best_single])], unit), "run": best_single, "over_zero_shot": round(top_5(table[best_single]) - zero, 2),
        },
        "mlr.best_top5": {**figure([top_5(table[best])], unit), "run": best, "over_zero_shot": round(top_5(table[best]) - zero, 2)},
        "table": table,
    }
