"""Area `commit`: durable commits against bare system calls and against sqlite-vec."""

from pathlib import Path

import surroundings
from measuring import Side, alternate, counting_syncs, disk, figure, output_of, ratios

BATCH = 10_000


def measure(quick: bool) -> dict:
    ours = surroundings.build_program("commit")
    rival = surroundings.build_program("sqlite_vec")
    runs = 5 if quick else 9
    return {
        **single(ours, runs, rounds=5 if quick else 20),
        **threads(ours, runs, seconds=2 if quick else 5),
        **batches(ours, rival, runs, count=5 if quick else 10, size=BATCH, name="batch10k"),
        **batches(ours, rival, runs, count=50 if quick else 200, size=100, name="batch100"),
    }


def single(program: Path, runs: int, rounds: int) -> dict:
    """One program does both by turns of 50 commits, so that a slow moment of the disk falls on both."""
    with disk() as folder:
        results = [output_of([program, "single", folder / str(run), rounds]) for run in range(runs)]
        told, syncs = counting_syncs([program, "once", folder / "syncs", 2000, 1])
    return {
        "commit.single_vs_raw": figure([result["ours_per_s"] / result["raw_per_s"] for result in results], "times the bare rate"),
        "commit.single_per_s": figure([result["ours_per_s"] for result in results], "commits per second"),
        "commit.raw_per_s": figure([result["raw_per_s"] for result in results], "commits per second"),
        "commit.single_bytes": figure([result["bytes_per_commit"] for result in results], "bytes written per commit"),
        "commit.single_syncs_per_commit": {**figure([sum(syncs.values()) / told["commits"]], "sync calls per commit"), "calls": syncs},
    }


def threads(program: Path, runs: int, seconds: int) -> dict:
    """Sync calls of the whole process, opening and closing included, over acknowledged commits."""
    shares, rates, calls = [], [], {}
    with disk() as folder:
        for run in range(runs):
            told, calls = counting_syncs([program, "threads", folder / str(run), 32, seconds])
            shares.append(sum(calls.values()) / told["commits"])
            rates.append(told["commits_per_s"])
    return {
        "commit.threads32_syncs_per_commit": {**figure(shares, "sync calls per commit"), "calls": calls},
        "commit.threads32_per_s": figure(rates, "commits per second"),
    }


def batches(program: Path, rival: Path, runs: int, count: int, size: int, name: str) -> dict:
    with disk() as folder:
        sides = [Side("stratal", [program, "batch", folder, count, size]), Side("sqlite-vec", [rival, "batch", folder, count, size])]
        mine, others = alternate(sides, runs)
        for side in sides:
            side.close()
        told, our_syncs = counting_syncs([program, "once", folder / "once", count, size])
        _, rival_syncs = counting_syncs([rival, "once", folder, count, size])
    rate = "documents per second"

    def syncs(calls: dict) -> dict:
        return {**figure([sum(calls.values()) / count], "sync calls per commit"), "calls": calls}

    if told["commits"] != count or sum(our_syncs.values()) < count:
        raise RuntimeError(f"{count} commits were acknowledged with only {our_syncs}: not durable")
    return {
        f"commit.{name}_vs_sqlite_vec": figure(ratios(mine, others, "documents_per_s"), "times the rate of sqlite-vec"),
        f"commit.{name}_documents_per_s": figure([result["documents_per_s"] for result in mine], rate),
        f"commit.{name}_sqlite_vec_documents_per_s": figure([result["documents_per_s"] for result in others], rate),
        f"commit.{name}_syncs_per_commit": syncs(our_syncs),
        f"commit.{name}_sqlite_vec_syncs_per_commit": syncs(rival_syncs),
    }
