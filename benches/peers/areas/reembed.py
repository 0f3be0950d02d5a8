"""Area `reembed`: another encoder's vectors for everything, beside a reader: its rate, the cutover, what the reader notices."""

import statistics
import subprocess

import surroundings
from areas.learning import Command, write
from measuring import Side, disk, figure

# Seconds that the reader is asked when all is quiet, before and after.
QUIET = 10


def measure(quick: bool) -> dict:
    passages = surroundings.read_jsonl("qa/corpus.jsonl.gz")
    if quick:
        passages = passages[::8]
    stratal = surroundings.build_command()
    reader = surroundings.build_program("reader", encoder=True)
    model = surroundings.model()
    run = Command(stratal, model)
    with disk() as folder:
        corpus = write(folder / "corpus.jsonl.gz", passages)
        database = folder / "passages.stratal"
        added, seconds = run.json("add", database, corpus, "--collection", "qa")
        rate = added["encoded"] / seconds
        # The tokens and the work are the same; so is the dimension, and nothing else.
        again, seconds = run.json("reembed", database, "--model", model, "--pooling", "cls")
        alone, cutovers = again["encoded"] / seconds, [again["cutover_seconds"] * 1000]

        side = Side("reader", [reader, database, "qa"])
        still = asked(side, QUIET)
        process = run.start("reembed", database, "--model", model, "--pooling", "mean", "--normalize", "false")
        meanwhile = []
        while process.poll() is None:
            meanwhile += side.run()["seconds"]
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "stratal reembed")
        still += asked(side, QUIET)
        side.close()
    return {
        "reembed.vs_ingest": figure([alone / rate], "x, passages per second over the ingestion's"),
        "reembed.passages_per_s": figure([alone], "passages per second"),
        "reembed.cutover_ms": figure(cutovers, "ms that commits waited"),
        "reembed.reader_p50_vs_quiet": figure(
            [statistics.median(meanwhile) / statistics.median(still)], "x, a reader's median latency over the quiet one",
        ),
        "reembed.reader_p95_vs_quiet": figure(
            [percentile(meanwhile, 0.95) / percentile(still, 0.95)], "x, the same of the 95th percentile",
        ),
        "reembed.reader_quiet_ms": figure([1000 * statistics.median(still)], "ms, one search in words with a look for new commits"),
        "reembed.reader_searches": figure([float(len(meanwhile))], "searches meanwhile"),
    }


def asked(side: Side, rounds: int) -> list[float]:
    return [second for _ in range(rounds) for second in side.run()["seconds"]]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]
