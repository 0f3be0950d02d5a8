"""Taking turns, medians, counting sync calls and peak memory."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from surroundings import TARGET, Missing, say

SYNC_CALLS = ["fsync", "fdatasync", "msync", "sync_file_range", "syncfs", "sync"]


def figure(runs: list[float], unit: str, value: float | None = None, digits: int = 4) -> dict:
    """One key of the scoreboard: the median of `runs` unless `value` says otherwise."""
    chosen = statistics.median(runs) if value is None else value
    return {"value": rounded(chosen, digits), "unit": unit, "runs": [rounded(run, digits) for run in runs]}


def rounded(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


class Side:
    """A program that loads and warms itself, says it is ready, then measures when asked.

    It writes one JSON line when ready and one for each line it reads: `run`, or what it was made to be asked.
    """

    def __init__(self, name: str, command: list, environment: dict | None = None):
        self.name = name
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})},
        )
        self.ready = self._read()

    def run(self) -> dict:
        return self.ask("run")

    def ask(self, request: str) -> dict:
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        return json.loads(line)


def alternate(sides: list[Side], runs: int) -> list[list[dict]]:
    """`runs` rounds; in each, every side once; the order turns round from one to the next."""
    results: list[list[dict]] = [[] for _ in sides]
    for round_number in range(runs):
        order = list(enumerate(sides))
        if round_number % 2:
            order.reverse()
        for place, side in order:
            results[place].append(side.run())
            say(f"  run {round_number + 1} of {runs}: {side.name} {results[place][-1]}")
    return results


def ratios(results: list[dict], others: list[dict], field: str) -> list[float]:
    """Run by run, so that a slow minute of the machine falls on both."""
    return [mine[field] / other[field] for mine, other in zip(results, others)]


def output_of(command: list, environment: dict | None = None) -> dict:
    """Runs a program that prints one JSON object."""
    done = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **(environment or {})},
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def counting_syncs(command: list) -> tuple[dict, dict]:
    """Runs a program as `output_of` does and counts its sync calls, opening and closing included.

    perf counts in the kernel and does not slow the program; where it may not be used,
    strace does, which makes each sync dearer.
    """
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        if _perf_counts():
            events = ",".join(f"syscalls:sys_enter_{call}" for call in SYNC_CALLS)
            answer = output_of(["perf", "stat", "-x", ",", "-o", counts, "-e", events, *command])
            rows = [line.split(",") for line in counts.read_text().splitlines() if "sys_enter_" in line]
            found = {row[2].split("sys_enter_")[1]: int(row[0]) for row in rows}
        elif shutil.which("strace"):
            answer = output_of(["strace", "-f", "-c", "-o", counts, "-e", "trace=" + ",".join(SYNC_CALLS), *command])
            rows = [line.split() for line in counts.read_text().splitlines()]
            found = {row[-1]: int(row[3]) for row in rows if row and row[-1] in SYNC_CALLS}
        else:
            raise Missing("neither perf nor strace can count sync calls here: install strace")
    return answer, {call: count for call, count in found.items() if count}


def _perf_counts() -> bool:
    if not shutil.which("perf"):
        return False
    probe = subprocess.run(
        ["perf", "stat", "-e", "syscalls:sys_enter_fdatasync", "true"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    return probe.returncode == 0


def peak_memory(command: list, environment: dict | None = None) -> tuple[float, float]:
    """Runs a program; its peak resident memory in MiB and the seconds it took.

    The kernel's high-water mark of the process itself is read until it ends (`ru_maxrss` of a
    child would begin at this process's own size).
    """
    begin = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=sys.stderr, env={**os.environ, **(environment or {})},
    )
    peak_kib = 0
    while process.poll() is None:
        try:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak_kib = max(peak_kib, int(line.split()[1]))
        except OSError:
            pass
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
    return peak_kib / 1024, time.monotonic() - begin


@contextmanager
def disk():
    """A folder on the disk that is measured: a temporary file system in memory would sync for nothing."""
    TARGET.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scoreboard-", dir=TARGET))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Space taken on the disk, preallocated blocks included."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def cold_cache() -> bool:
    """Drops the page cache where this user may."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False
