#!/usr/bin/env python3
"""The experiments of the paper (arXiv 2509.23861), and two of our own, on a small set and a small budget.

    python3 benches/peers/experiments.py [--steps N] [--seed N] [NAME...]

Names: pair, second-layer, lambda, vectors, similarity, question-layers, apart; without one, all of them. Each trains the
untouched encoder on `qa/train` for so many steps (default 40: about ten minutes of CPU time a run), and is told by what it
finds of the `qa/dev` questions among some 4,000 passages. Prints a table and writes benches/results/experiments.json.
Runs are kept in the folder STRATAL_RUNS (else beside the build), so that an interrupted call goes on where it was.

So few steps say which way an effect points, if that; `scoreboard.py mlr` trains for longer and with several seeds.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import surroundings

PASSAGES = 4_000
CLS = ["--pooling", "cls", "--normalize", "false", "--tau", "1", "--learning-rate", "5e-5"]
MEAN = ["--pooling", "mean", "--normalize", "true", "--tau", "0.05", "--learning-rate", "3e-5"]
BATCH = ["--precision", "bf16", "--batch", "64", "--chunk", "192", "--negatives", "mined"]


def arm(method: str, layers: list[int], *more: str) -> list[str]:
    return ["--method", method, "--encoder-layers", ",".join(map(str, layers)), *more]


# Experiment: what differs, by the name of the row.
EXPERIMENTS: dict[str, dict[str, list[str]]] = {
    "pair": {
        "dual encoder": [*CLS, *arm("dual-encoder", [6])],
        "self-contrastive [6,5]": [*CLS, *arm("self-contrastive", [6, 5], "--lambda", "0.1")],
    },
    "second-layer": {
        f"self-contrastive [6,{layer}]": [*CLS, *arm("self-contrastive", [6, layer], "--lambda", "0.1")]
        for layer in (5, 4, 3, 2, 1)
    },
    "lambda": {
        f"lambda {weight}": [*CLS, *arm("self-contrastive", [6, 5], "--lambda", weight)] for weight in ("0.01", "0.1", "1", "10")
    },
    "vectors": {
        f"{count} vectors": [*MEAN, *arm("multi-vector", [6, 5, 4, 3, 2, 1][:count])] if count > 1 else [*MEAN, *arm("dual-encoder", [6])]
        for count in (1, 2, 3, 4, 6)
    },
    "question-layers": {
        "one of the question": [*MEAN, *arm("multi-vector", [6, 5])],
        "two of the question": [*MEAN, *arm("multi-vector", [6, 5], "--question-layers")],
    },
    "apart": {
        f"apart {weight}": [*MEAN, *arm("multi-vector", [6, 5, 4, 3], "--apart", weight)] for weight in ("0", "0.1", "1")
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *EXPERIMENTS, "similarity"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        runs = Runs(arguments.steps, arguments.seed)
        found = {name: experiment(runs, name) for name in arguments.names or [*EXPERIMENTS, "similarity"]}
    except surroundings.Missing as missing:
        print(f"experiments: {missing}", file=sys.stderr)
        return 2
    told = {
        "date": surroundings.today(), "machine": surroundings.machine(), "steps": arguments.steps, "seed": arguments.seed,
        "command": "python3 benches/peers/experiments.py " + " ".join(sys.argv[1:]), "experiments": found,
    }
    (surroundings.RESULTS / "experiments.json").write_text(json.dumps(told, indent=2) + "\n")
    for name, rows in found.items():
        print(f"\n{name}")
        for row, figures in rows.items():
            print(f"  {row:<26}" + "".join(f"{figure:>10}" for figure in figures.values()))
    return 0


def experiment(runs: "Runs", name: str) -> dict:
    if name == "similarity":
        return runs.similarity()
    task = runs.halves if name == "question-layers" else runs.questions
    return {row: runs.row(row, arguments, task) for row, arguments in EXPERIMENTS[name].items()}


class Runs:
    def __init__(self, steps: int, seed: int):
        self.folder = Path(os.environ.get("STRATAL_RUNS", surroundings.TARGET / "mlr")).resolve() / f"experiments-{steps}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.budget = [*BATCH, "--steps", str(steps), "--seed", str(seed)]
        self.stratal = surroundings.build_command()
        self.environment = {**os.environ, "STRATAL_MODEL": str(surroundings.model())}
        self.questions, self.halves = self.ask_for_passages(), self.find_the_other_half()

    def ask_for_passages(self) -> dict[str, Path]:
        """The questions as they are, over their passages and some more."""
        sets = {name: surroundings.read_jsonl(f"qa/{name}.jsonl.gz") for name in ("corpus", "train", "dev")}
        asked = {question["passage_id"] for question in sets["dev"]}
        needed = asked | {question["passage_id"] for question in sets["train"]}
        corpus = [passage for passage in sets["corpus"] if passage["id"] in needed]
        small = [passage for passage in sets["corpus"] if passage["id"] in asked]
        small += [passage for passage in sets["corpus"] if passage["id"] not in asked][: PASSAGES - len(small)]
        return {
            "corpus": self.write("corpus", corpus), "small": self.write("small", small),
            "train": self.write("train", sets["train"]), "dev": self.write("dev", sets["dev"]),
        }

    def find_the_other_half(self) -> dict[str, Path]:
        """A symmetric task: the first half of a passage asks for its second half."""
        passages = surroundings.read_jsonl("qa/corpus.jsonl.gz")[: 3 * PASSAGES]
        parts = {"corpus": [], "small": [], "train": [], "dev": []}
        for place, passage in enumerate(passages):
            words = passage["text"].split()
            half = len(words) // 2
            if half < 8:
                continue
            rest = {"id": passage["id"], "title": "", "text": " ".join(words[half:])}
            question = {
                "id": f"half-{passage['id']}", "question": " ".join(words[:half][-48:]), "passage_id": passage["id"],
                "answers": [], "title": passage["title"],
            }
            kept = ["dev", "small"] if place < PASSAGES else ["train", "corpus"]
            parts[kept[0]].append(question)
            parts[kept[1]].append(rest)
        return {name: self.write(f"halves-{name}", rows) for name, rows in parts.items()}

    def write(self, name: str, rows: list[dict]) -> Path:
        path = self.folder / f"{name}.jsonl.gz"
        if not path.exists():
            part = path.with_suffix(".part")
            with gzip.open(part, "wt", encoding="utf-8") as lines:
                lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            part.rename(path)
        return path

    def json(self, into: str, *arguments) -> dict:
        """The last line that the command prints, from the file of an earlier call where there is one."""
        path = self.folder / f"{into}.json"
        if not path.exists():
            surroundings.say(f"  {into}")
            command = [str(self.stratal), *map(str, arguments), "--json"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment)
            if done.returncode:
                # A run that collapses is a result too.
                why = [line for line in done.stderr.splitlines() if not line.startswith("{")]
                return {"failed": why[-1] if why else f"status {done.returncode}"}
            path.write_text(done.stdout)
        return json.loads(path.read_text().splitlines()[-1])

    def trained(self, row: str, arguments: list[str], task: dict[str, Path]) -> tuple[Path, dict]:
        name = ("halves " if task is self.halves else "") + row
        slug = "".join(c if c.isalnum() else "-" for c in name)
        model = self.folder / f"{slug}.model"
        told = self.json(
            f"{slug}.train", "train", "--corpus", task["corpus"], "--questions", task["train"], *self.budget, *arguments,
            "--output", model,
        )
        return model, told

    def row(self, row: str, arguments: list[str], task: dict[str, Path]) -> dict:
        model, told = self.trained(row, arguments, task)
        if "failed" in told:
            return told
        more = ["--question-layers"] if "--question-layers" in arguments else []
        found = self.json(
            f"{model.stem}.dev", "evaluate", "--corpus", task["small"], "--questions", task["dev"], "--model", model, *more
        )
        if "failed" in found:
            return found
        figures = found["figures"]
        return {f"top_{k}": round(100 * share, 2) for k, share in zip((1, 5, 20, 100), figures["top"])} | {
            "mrr_10": round(figures["mrr_10"], 4)
        }

    def similarity(self) -> dict:
        """Cosines between a passage's layers before and after training; pictures beside the runs."""
        models = {"untouched": surroundings.model()}
        for row in ("apart 0", "apart 1"):
            models[f"multi-vector, {row}"] = self.trained(row, EXPERIMENTS["apart"][row], self.questions)[0]
        rows = {}
        for row, model in models.items():
            slug = "".join(c if c.isalnum() else "-" for c in row)
            told = self.json(
                f"{slug}.layers", "layers", "--corpus", self.questions["small"], "--questions", self.questions["dev"],
                "--model", model, "--encoder-layers", "6,5,4,3", "--picture", self.folder / f"{slug}.svg",
            )
            last = told["similarity"][0] if "similarity" in told else []
            rows[row] = {f"6 and {layer}": round(cosine, 3) for layer, cosine in zip((5, 4, 3), last[1:])} or told
        return rows


if __name__ == "__main__":
    sys.exit(main())
