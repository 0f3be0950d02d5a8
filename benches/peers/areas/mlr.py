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

# What all runs share. No gradient caching: a chunk holds the whole batch.
BUDGET = ["--precision", "bf16", "--chunk", "256", "--warm-up", "0.1"]
ONE_NEGATIVE = ["--hard-negatives", "1"]
# Hard negatives are drawn from so many of the untouched encoder's best.
POOL = 30
MEAN = [*ONE_NEGATIVE, "--batch", "64", "--tau", "0.05", "--epochs", "1", "--every", "46"]

# The best single vector: mean pooling, one epoch, the best state by dev.
BEST = "mean-dual-encoder"
BEST_ARGUMENTS = [*MEAN, "--learning-rate", "3e-5", "--seed", "0"]
# The same at three times the rate, to its end: worse.
FASTER = "mean-dual-encoder-1e-4"
FASTER_ARGUMENTS = [*MEAN, "--learning-rate", "1e-4", "--seed", "0"]
# Batches of passages that are taken for each other, each encoded once for all of its questions: three times over the
# questions in about the time of one.
GROUPED = "mean-dual-encoder-grouped"
GROUPED_ARGUMENTS = [
    "--batch", "192", "--group", "48", "--hard-negatives", "0", "--tau", "0.05", "--epochs", "3", "--learning-rate", "5e-5",
    "--seed", "0",
]
# Titles are read too, more of a passage, and each question has a hard negative of all 20,000 passages beside its group.
TITLED = "titled-dual-encoder"
TITLED_SHARED = [
    "--batch", "96", "--group", "24", *ONE_NEGATIVE, "--tau", "0.05", "--passage-tokens", "192", "--template", "title-and-text",
]
TITLED_ARGUMENTS = [*TITLED_SHARED, "--epochs", "1", "--learning-rate", "5e-5", "--seed", "0"]
# Half an epoch more.
TITLED_ON = "titled-dual-encoder-2"
TITLED_ON_ARGUMENTS = [*TITLED_SHARED, "--steps", "46", "--learning-rate", "3e-5", "--seed", "1"]
# Once more over the questions, with hard negatives that the first epoch's encoder finds.
SECOND = "mean-dual-encoder-2"
SECOND_ARGUMENTS = [*MEAN, "--learning-rate", "2e-5", "--select-by", "reciprocal-rank", "--seed", "1"]
# One vector of what a passage means and of its words: so many elements more, under several weights.
LEXICAL = 384
WEIGHTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
# With words, by ranks and by scores; the weights are chosen on dev.
MIXED = ["--search", "dense", "--search", "bm25", "--search", "fused"]
for weight in (0.3, 0.4, 0.5, 0.6, 0.7):
    MIXED += ["--fuse", f"dense:{weight},bm25:{round(1 - weight, 1)}"]

# By the vectors of all tokens, which put the best of BM25 in order.
LATE = ["--search", "tokens", "--candidates", "bm25", "--rerank", "30"]
for weight in (0.5, 0.7):
    LATE += ["--fuse", f"tokens:{weight},bm25:{round(1 - weight, 1)}"]

# Both arms alike: `[CLS]`, raw dot products, the same start, in which layer 5 has learnt what a passage says, the same
# steps, judged over the same passages.
RAW_CLS = [*ONE_NEGATIVE, "--pooling", "cls", "--normalize", "false", "--tau", "1", "--batch", "32"]
WARM = "warm"
WARM_ARGUMENTS = [
    "--method", "mean-over-layers", "--encoder-layers", "6,5", "--learning-rate", "1e-4", "--steps", "30", "--seed", "0",
]
ARM_ARGUMENTS = ["--learning-rate", "5e-5", "--steps", "25"]
PAIR = {
    "dual-encoder": ["--method", "dual-encoder", "--encoder-layers", "6"],
    "self-contrastive": ["--method", "self-contrastive", "--encoder-layers", "6,5", "--lambda", "1"],
}
# Three at least are needed to tell a point from chance.
SEEDS = [0, 1, 2]


def measure(quick: bool) -> dict:
    if quick:
        raise surroundings.Missing("this area trains for hours; there is no quick form of it")
    runs = Runs()
    return figures_of(runs.table()) | figures_of_pair(runs.pair())


class Runs:
    """Encoders that were trained, and what they were found to be worth."""

    def __init__(self):
        self.folder = Path(os.environ.get("STRATAL_RUNS", surroundings.TARGET / "mlr")).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stratal = surroundings.build_command()
        self.database = self.folder / "passages.stratal"
        self.environment = {**os.environ, "STRATAL_MODEL": str(surroundings.model())}
        if not (self.folder / "add.json").exists():
            self.run("add", self.database, surroundings.DATA / "qa" / "corpus.jsonl.gz", "--collection", "qa", into="add")

    def mined(self, name: str) -> Path:
        """The questions of a file with hard negatives: of the untouched encoder's best those that hold no answer."""
        file = self.folder / f"{name}.jsonl"
        if not file.exists():
            self.run(
                "mine", "--database", self.database, "--questions", questions(name), "--negatives", POOL, "--output", file,
                into=f"{name}.mined",
            )
        return file

    def table(self) -> dict:
        """Every row: for dev and for test what was found."""
        rows = {"zero-shot": self.evaluated("zero-shot", self.all, [])["dense"]}
        first = self.trained(BEST, BEST_ARGUMENTS, self.judged())
        faster = self.trained(FASTER, FASTER_ARGUMENTS, self.given())
        grouped = self.trained(GROUPED, GROUPED_ARGUMENTS, self.given())
        titled = self.trained(TITLED, TITLED_ARGUMENTS, self.given())
        titled_on = self.trained(TITLED_ON, [*TITLED_ON_ARGUMENTS, "--model", titled], self.given())
        second = self.trained(SECOND, [*SECOND_ARGUMENTS, "--model", first], self.judged())
        trained = {
            BEST: first, FASTER: faster, GROUPED: grouped, TITLED: titled, TITLED_ON: titled_on, SECOND: second,
        }
        for name, model in trained.items():
            found = self.evaluated(name, self.all, ["--model", model, *MIXED])
            rows["BM25"] = found.pop("bm25")
            rows[name] = found.pop("dense")
            rows |= {f"{name}, {way}": figures for way, figures in found.items()}
        for name, model in {"zero-shot": surroundings.model(), TITLED: titled}.items():
            rows |= self.lexical(name, model)
        late = self.evaluated(f"{SECOND}-late", self.all, ["--model", second, *LATE])
        rows |= {f"{SECOND}, {way}": figures for way, figures in late.items()}
        return rows

    def pair(self) -> dict:
        """The same of each arm and seed, over fewer passages: not to be compared with the rows of the table."""
        rows = {}
        warm = self.trained(WARM, [*RAW_CLS, *WARM_ARGUMENTS], self.given())
        for seed in SEEDS:
            for arm, arguments in PAIR.items():
                name = f"{arm}-s{seed}"
                arguments = [*RAW_CLS, *arguments, *ARM_ARGUMENTS, "--seed", seed, "--model", warm]
                model = self.trained(name, arguments, self.given())
                rows[name] = self.evaluated(name, self.few(), ["--model", model])["dense"]
        return rows

    @property
    def all(self) -> list:
        """All 20,000 passages."""
        return ["--database", self.database]

    def few(self) -> list:
        """Those of SQuAD and those that dev asks for: encoding all for each arm and seed would take two hours."""
        file = self.folder / "few.jsonl"
        if not file.exists():
            asked = {question["passage_id"] for question in surroundings.read_jsonl("qa/dev.jsonl.gz")}
            passages = surroundings.read_jsonl("qa/corpus.jsonl.gz")
            write_lines(file, [one for one in passages if one["id"].startswith("squad-") or one["id"] in asked])
        return ["--corpus", file, "--max-tokens", 128]

    def run(self, *arguments, into: str) -> None:
        """Runs the command; what it prints lies in a file of that name only when it has ended well."""
        part = self.folder / f"{into}.part"
        with part.open("w") as out:
            command = [str(self.stratal), *map(str, arguments), "--json"]
            subprocess.run(command, check=True, stdout=out, env=self.environment)
        part.rename(self.folder / f"{into}.json")

    def judged(self) -> list:
        """Hard negatives out of what the encoder itself finds before training; the best state by dev is kept."""
        return ["--questions", questions("train"), "--negatives", "mined", "--validate", questions("dev")]

    def given(self) -> list:
        """The untouched encoder's hard negatives, whichever encoder is trained; the last state is kept."""
        return ["--questions", self.mined("train"), "--negatives", "given"]

    def trained(self, name: str, arguments: list, asked: list) -> Path:
        model = self.folder / f"{name}.model"
        if not (self.folder / f"{name}.train.json").exists():
            surroundings.say(f"  training {name}")
            self.run(
                "train", "--database", self.database, *asked, *BUDGET, *arguments,
                "--checkpoints", self.folder / f"{name}.checkpoints", "--curve", self.folder / f"{name}.svg",
                "--output", model, into=f"{name}.train",
            )
        return model

    def lexical(self, name: str, model: Path) -> dict:
        """The same encoder with a lexical part, under each weight."""
        lexical = self.folder / f"{name}-lexical.model"
        if not (self.folder / f"{name}-lexical.made.json").exists():
            self.run(
                "lexical", self.database, "--model", model, "--dimension", LEXICAL, "--output", lexical,
                into=f"{name}-lexical.made",
            )
        weights = [argument for weight in WEIGHTS for argument in ("--lexical-weight", weight)]
        found = self.evaluated(f"{name}-lexical", self.all, ["--model", lexical, *weights])
        return {f"{name} with {way.removeprefix('dense, ')}": found[way] for way in found if way != "dense"}

    def evaluated(self, name: str, passages: list, arguments: list) -> dict:
        """For each way of searching what it finds of dev and of test."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            surroundings.say(f"  evaluating {name}")
            self.run("evaluate", *passages, "--questions", questions("dev"), "--also", questions("test"), *arguments, into=name)
        found = json.loads(file.read_text())
        return {
            dev["search"]: {"dev": row(dev["figures"]), "test": row(test["figures"])}
            for dev, test in zip(found["searches"], found["also"][0]["searches"])
        }


def questions(name: str) -> Path:
    return surroundings.DATA / "qa" / f"{name}.jsonl.gz"


def write_lines(file: Path, values: list[dict]) -> None:
    part = file.with_suffix(".part")
    part.write_text("".join(json.dumps(value) + "\n" for value in values))
    part.rename(file)


def row(figures: dict) -> dict:
    # Deeper than was looked there is no figure.
    top = [None if share is None else round(100 * share, 2) for share in figures["top"]]
    return {"top_1_5_20_100": top, "mrr_10": round(figures["mrr_10"], 4)}


def top_5(rows: dict) -> float:
    return rows["test"]["top_1_5_20_100"][1]


UNIT = "% of test questions with the gold passage among the first 5"


def figures_of(table: dict) -> dict:
    singles = [name for name in table if name != "BM25" and "," not in name]
    zero = top_5(table["zero-shot"])

    def best(names) -> dict:
        # Chosen on dev, told on test.
        run = max(names, key=lambda name: table[name]["dev"]["top_1_5_20_100"][1])
        return {**figure([top_5(table[run])], UNIT), "run": run, "over_zero_shot": round(top_5(table[run]) - zero, 2)}

    return {
        "mlr.zero_shot_top5": figure([zero], UNIT),
        "mlr.bm25_top5": figure([top_5(table["BM25"])], UNIT),
        "mlr.best_single_vector_top5": best(singles),
        "mlr.best_single_vector_of_384_top5": best([name for name in singles if " with words " not in name]),
        "mlr.best_top5": best(table),
        "table": table,
    }


def figures_of_pair(table: dict) -> dict:
    unit = f"{UNIT} of SQuAD's and dev's passages"
    of_arm = {arm: [top_5(table[f"{arm}-s{seed}"]) for seed in SEEDS] for arm in PAIR}
    gains = [b - a for a, b in zip(of_arm["dual-encoder"], of_arm["self-contrastive"])]
    return {
        "mlr.de_top5": figure(of_arm["dual-encoder"], unit),
        "mlr.self_contrastive_top5": figure(of_arm["self-contrastive"], unit),
        "mlr.self_contrastive_gain": {
            **figure(gains, "points, seed by seed"), "spread": round(statistics.stdev(gains), 3) if len(gains) > 1 else None,
        },
        "pair": table,
    }
