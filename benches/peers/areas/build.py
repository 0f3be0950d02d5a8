"""Area `build`: what a user who brings vectors compiles."""

import os
import resource
import subprocess
import sys
import tempfile

import surroundings
from measuring import figure


def measure(quick: bool) -> dict:
    runs = 2 if quick else 5
    return {
        "build.packages_without_default": figure([float(packages("--no-default-features"))], "packages"),
        "build.packages_default": figure([float(packages())], "packages"),
        "build.cpu_s_without_default": figure([cold_build("--no-default-features") for _ in range(runs)], "CPU-seconds"),
    }


def packages(*features: str) -> int:
    """Packages that Cargo compiles for this machine: normal and build dependencies, the library itself too."""
    tree = subprocess.run(
        ["cargo", "tree", "--package", "stratal", "--edges", "normal,build", "--prefix", "none", "--format", "{p}", *features],
        cwd=surroundings.ROOT, check=True, capture_output=True, text=True,
    ).stdout
    return len({" ".join(line.split()[:2]) for line in tree.splitlines() if line.strip()})


def cold_build(*features: str) -> float:
    """CPU-seconds of cargo and all its compilers, into an empty target folder; downloads are done before."""
    command = ["cargo", "build", "--quiet", "--release", "--lib", "--package", "stratal", *features]
    subprocess.run(["cargo", "fetch", "--quiet"], cwd=surroundings.ROOT, check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as target:
        before = children()
        subprocess.run(
            command, cwd=surroundings.ROOT, check=True, stdout=sys.stderr,
            env={**os.environ, "CARGO_TARGET_DIR": target, "RUSTC_WRAPPER": ""},
        )
        spent = children() - before
    surroundings.say(f"  cold build: {spent:.1f} CPU-seconds")
    return spent


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
