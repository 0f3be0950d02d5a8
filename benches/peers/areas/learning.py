"""Area `learning`: a collection that learns from its own pairs, and one that has none."""

import gzip
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import surroundings
from measuring import disk, figure

# Enough for one epoch on two cores; what is compared has the same.
STEPS_QUICK = "3"
KILLS = 3
# Where words are to be counted, training is a small part of what is learnt.
LEXICAL = ["--lexical", 384, "--steps", 10]


def measure(quick: bool) -> dict:
    sets = {name: surroundings.read_jsonl(f"qa/{name}.jsonl.gz") for name in ["corpus", "train", "dev"]}
    if quick:
        sets["train"], sets["dev"] = sets["train"][::12], sets["dev"][::12]
        gold = {question["passage_id"] for name in ["train", "dev"] for question in sets[name]}
        sets["corpus"] = [passage for passage in sets["corpus"] if passage["id"] in gold]
    stratal = surroundings.build_command()
    model = surroundings.model()
    run = Command(stratal, model)
    budget = ["--steps", STEPS_QUICK] if quick else []
    figures: dict = {}
    with disk() as folder:
        corpus, train, dev = (write(folder / f"{name}.jsonl.gz", sets[name]) for name in ["corpus", "train", "dev"])
        plain = folder / "plain.stratal"
        added, seconds = run.json("add", plain, corpus, "--collection", "qa")
        figures["learning.ingest_passages_per_s"] = figure([added["encoded"] / seconds], "passages per second")
        subprocess.run(["cp", "-r", plain, folder / "paired.stratal"], check=True)
        subprocess.run(["cp", "-r", plain, folder / "killed.stratal"], check=True)
        subprocess.run(["cp", "-r", plain, folder / "lexical.stratal"], check=True)

        surroundings.say("  learning from pairs")
        paired = folder / "paired.stratal"
        learned, seconds = run.json(
            "add", paired, corpus, "--collection", "qa", "--pairs", train, "--learn", *budget,
        )
        candidate = concluded(learned)
        figures["learning.seconds"] = figure([seconds], "seconds, training, judging and re-embedding")
        figures["learning.held_out_gain"] = {
            **figure([100 * candidate["judgement"]["gain"]], "points, as the engine judged"),
            "verdict": candidate["verdict"], "judgement": candidate["judgement"], "steps": candidate["steps"],
        }
        figures["learning.dev_top5_gain"] = gain(run, paired, dev, model)

        surroundings.say("  learning without pairs")
        # The same budget: there are more of these pairs, and a whole epoch of them would be a longer run.
        unpaired, _ = run.json("learn", plain, "--steps", candidate["steps"])
        candidate = concluded({"learned": unpaired})
        figures["learning.unsupervised_dev_top5_gain"] = {
            **gain(run, plain, dev, model), "verdict": candidate["verdict"], "judgement": candidate.get("judgement"),
        }

        surroundings.say("  learning without pairs to weigh words")
        lexical = folder / "lexical.stratal"
        unpaired, _ = run.json("learn", lexical, *LEXICAL)
        candidate = concluded({"learned": unpaired})
        figures["learning.lexical_dev_top5_gain"] = {
            **gain(run, lexical, dev, model), "verdict": candidate["verdict"], "judgement": candidate.get("judgement"),
        }

        if quick:
            surroundings.say("  killed and gone on with")
            figures["learning.killed_same"] = killed(run, folder / "killed.stratal", paired, corpus, train, budget)
    return figures


def write(path: Path, rows: list[dict]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


class Command:
    def __init__(self, stratal: Path, model: Path):
        self.stratal = stratal
        self.environment = {**os.environ, "STRATAL_MODEL": str(model)}

    def start(self, *arguments) -> subprocess.Popen:
        command = [str(self.stratal), *map(str, arguments), "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)

    def json(self, *arguments) -> tuple[dict, float]:
        begin = time.monotonic()
        process = self.start(*arguments)
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"stratal {arguments[0]} ended with status {process.returncode}")
        return json.loads(out), time.monotonic() - begin


def concluded(report: dict) -> dict:
    return report["learned"]["concluded"]


def gain(run: Command, database: Path, questions: Path, model: Path) -> dict:
    """Top-5 of the collection's encoder less that of the untouched one, on questions that neither learned from."""
    found, _ = run.json("evaluate", "--database", database, "--questions", questions, "--against", model)
    difference = found["against"]["top_5_gain"]
    after, before = found["figures"], found["against"]["figures"]
    return {
        **figure([100 * difference["mean"]], "points of Top-5 over the untouched encoder"),
        "low": 100 * difference["low"], "high": 100 * difference["high"],
        "before": [100 * share for share in before["top"]], "after": [100 * share for share in after["top"]],
        "before_mrr_10": before["mrr_10"], "after_mrr_10": after["mrr_10"],
    }


def killed(run: Command, database: Path, whole: Path, corpus: Path, train: Path, budget: list) -> dict:
    """Kills the same run a few times, and compares what it comes to with the run that was left alone."""
    arguments = ["add", database, corpus, "--collection", "qa", "--pairs", train, "--learn", *budget]
    for kill in range(KILLS):
        process = run.start(*arguments)
        time.sleep(6 + 5 * kill)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    run.json(*arguments)
    # A run that was concluded before the last call learns once more; the first is compared.
    first = [run.json("learning", path)[0]["history"][0] for path in (database, whole)]
    same = all(first[0][key] == first[1][key] for key in ["hash", "steps", "judgement"])
    return figure([float(same)], "1 if the candidate is the same, bit for bit")
