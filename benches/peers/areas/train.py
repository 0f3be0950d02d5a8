"""Area `train`: one optimizer step against PyTorch, and what memory a batch takes with gradient caching."""

import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import surroundings
from measuring import Side, alternate, disk, figure, peak_memory, ratios

PAIRS = 16
TOKENS = 128
THREADS = 2
CHUNK = 16
BATCHES = [32, 64, 128]


def measure(quick: bool) -> dict:
    folder = surroundings.model()
    stratal = surroundings.build_command()
    # Texts of more words than tokens are read, so that every one of a batch has just as many tokens.
    texts = [passage["text"] for passage in surroundings.read_jsonl("qa/corpus.jsonl.gz")]
    long = [text for text in texts if len(text.split()) > TOKENS]
    with disk() as work:
        return {
            **against_pytorch(stratal, folder, long, work, runs=3 if quick else 7, steps=2 if quick else 3),
            **memory(stratal, folder, long, work),
        }


def against_pytorch(stratal: Path, folder: Path, texts: list[str], work: Path, runs: int, steps: int) -> dict:
    pairs = list(zip(texts[:PAIRS], texts[PAIRS : 2 * PAIRS], strict=True))
    written = work / "pairs.json"
    written.write_text(json.dumps(pairs))
    corpus, questions = files(work, "step", pairs)
    sides = [Trainer(precision, stratal, folder, corpus, questions, work, steps) for precision in ["bf16", "f32"]]
    for precision in ["bf16", "f32"]:
        sides.append(Side(f"pytorch {precision}", [
            surroundings.VENV / "bin" / "python", surroundings.PEERS / "rivals" / "pytorch_train.py",
            folder, written, TOKENS, THREADS, steps, precision,
        ]))
    # The first loss is of the untouched model without dropout: the same maths, or there is nothing to compare.
    exact = sides[1].first_loss()
    losses = {sides[0].name: sides[0].first_loss(), **{side.name: side.ready["loss"] for side in sides[2:]}}
    for name, loss in losses.items():
        if abs(loss / exact - 1) > (1e-3 if name.endswith("f32") else 2e-2):
            raise RuntimeError(f"the losses differ: ours is {exact}, that of {name} {loss}")
    half, single, others_half, others_single = alternate(sides, runs)
    for side in sides[2:]:
        side.close()

    def middle(results: list[dict]) -> float:
        return statistics.median(result["cpu_s"] for result in results)

    def samples(results: list[dict]) -> dict:
        return figure([PAIRS / result["cpu_s"] for result in results], "pairs per second")

    best = min([others_half, others_single], key=middle)
    rival = "pytorch bf16" if best is others_half else "pytorch f32"
    return {
        "train.samples_vs_pytorch": {
            **figure(ratios(best, half, "cpu_s"), "times the pairs per CPU-second of PyTorch's better way"),
            "ours": "bf16", "rival": rival, "torch": sides[2].ready["torch"],
        },
        "train.samples_vs_pytorch_wall": figure(ratios(best, half, "wall_s"), "the same by the clock"),
        "train.samples_vs_pytorch_f32": figure(ratios(others_single, single, "cpu_s"), "both in f32"),
        "train.pairs_per_cpu_s": samples(half),
        "train.f32_pairs_per_cpu_s": samples(single),
        "train.pytorch_bf16_pairs_per_cpu_s": samples(others_half),
        "train.pytorch_f32_pairs_per_cpu_s": samples(others_single),
    }


def memory(stratal: Path, folder: Path, texts: list[str], work: Path) -> dict:
    figures = {}
    for batch in BATCHES:
        half = len(texts) // 2
        pairs = [(texts[i % half], texts[half + i]) for i in range(batch)]
        corpus, questions = files(work, f"memory{batch}", pairs)
        arguments = command(stratal, folder, corpus, questions, work / f"memory{batch}.model", batch, 2, 0.1, "bf16")
        peak, _ = peak_memory(arguments)
        figures[f"train.peak_mib_{batch}"] = figure([peak], f"MiB at most, batch {batch}, chunks of {CHUNK}")
    return figures


def files(work: Path, name: str, pairs: list[tuple[str, str]]) -> tuple[Path, Path]:
    corpus, questions = work / f"{name}.corpus.jsonl", work / f"{name}.questions.jsonl"
    corpus.write_text("".join(json.dumps({"id": str(i), "text": passage}) + "\n" for i, (_, passage) in enumerate(pairs)))
    questions.write_text("".join(
        json.dumps({"id": str(i), "question": question, "passage_id": str(i)}) + "\n" for i, (question, _) in enumerate(pairs)
    ))
    return corpus, questions


def command(
    stratal: Path, folder: Path, corpus: Path, questions: Path, output: Path, batch: int, steps: int, dropout: float,
    precision: str,
) -> list:
    return [
        stratal, "train", "--corpus", corpus, "--questions", questions, "--model", folder, "--output", output,
        "--batch", batch, "--chunk", CHUNK, "--hard-negatives", 0, "--negatives", "given", "--steps", steps,
        "--passage-tokens", TOKENS, "--question-tokens", TOKENS, "--dropout", dropout, "--tau", 0.05,
        "--threads", THREADS, "--precision", precision, "--json",
    ]


class Trainer:
    """Our side: the command itself, a process a run, timed from the end of its first step to that of its last."""

    def __init__(self, precision: str, stratal: Path, folder: Path, corpus: Path, questions: Path, work: Path, steps: int):
        self.name, self.precision = f"stratal {precision}", precision
        self.work, self.steps, self.count = work, steps, 0
        self.of = lambda output, steps, dropout: command(
            stratal, folder, corpus, questions, output, PAIRS, steps, dropout, precision,
        )
        self.loss = None

    def first_loss(self) -> float:
        if self.loss is None:
            self.loss = self._steps(1, 0.0)[0]["loss"]
        return self.loss

    def run(self) -> dict:
        told = self._steps(1 + self.steps, 0.1)
        spent = lambda field: (told[-1][field] - told[0][field]) / self.steps
        return {"cpu_s": spent("cpu_s"), "wall_s": spent("wall_s")}

    def _steps(self, steps: int, dropout: float) -> list[dict]:
        self.count += 1
        arguments = [str(part) for part in self.of(self.work / f"{self.precision}{self.count}", steps, dropout)]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        told = []
        for line in process.stderr:
            if '"step"' in line and line.startswith("{"):
                step = json.loads(line)["step"]
                told.append({"loss": step["loss"], "wall_s": time.monotonic(), "cpu_s": cpu_seconds(process.pid)})
        if process.wait() or len(told) != steps:
            raise RuntimeError(f"{self.name} ended with status {process.returncode} after {len(told)} steps")
        return told


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
