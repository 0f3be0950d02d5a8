"""Area `open`: opening a large database, its first read, and space given back."""

import shutil
from pathlib import Path

import surroundings
from measuring import cold_cache, disk, figure, folder_bytes, output_of


def measure(quick: bool) -> dict:
    ours = surroundings.build_program("open")
    rival = surroundings.build_program("sqlite_vec")
    count = 100_000 if quick else 1_000_000
    runs = 5 if quick else 9
    with disk() as folder:
        return {**opening(ours, rival, folder, count, runs), **space(ours, folder, count)}


def opening(ours: Path, rival: Path, folder: Path, count: int, runs: int) -> dict:
    database, other = folder / "million.stratal", folder / "sqlite-vec.db"
    surroundings.say(f"  filling two databases with {count:,} documents")
    built = output_of([ours, "build", database, count, 0])
    output_of([rival, "build", other, count])
    warm = [output_of([ours, "open", database, count]) for _ in range(runs)]
    others = [output_of([rival, "open", other, count]) for _ in range(runs)]
    figures = {
        "open.million_ms": figure([run["open_ms"] for run in warm], "ms"),
        "open.first_get_ms": figure([run["first_get_ms"] for run in warm], "ms"),
        "open.resident_mib": figure([run["resident_mib"] for run in warm], "MiB"),
        "open.sqlite_vec_ms": figure([run["open_ms"] for run in others], "ms"),
        "open.sqlite_vec_first_get_ms": figure([run["first_get_ms"] for run in others], "ms"),
        "open.bytes_per_document": figure([folder_bytes(database) / count], "bytes"),
        "open.fill_documents_per_s": figure([built["documents_per_s"]], "documents per second"),
    }
    if cold_cache():
        cold = []
        for _ in range(runs):
            cold_cache()
            cold.append(output_of([ours, "open", database, count]))
        figures["open.million_cold_ms"] = figure([run["open_ms"] for run in cold], "ms, page cache dropped")
        figures["open.first_get_cold_ms"] = figure([run["first_get_ms"] for run in cold], "ms, page cache dropped")
    for figures_of_size in figures.values():
        figures_of_size["documents"] = count
    other.unlink()
    return figures


def space(ours: Path, folder: Path, count: int) -> dict:
    """Every second document deleted and compacted, over a fresh database of the other half."""
    database, fresh = folder / "million.stratal", folder / "fresh.stratal"
    before = folder_bytes(database)
    output_of([ours, "halve", database, count])
    after = folder_bytes(database)
    shutil.rmtree(database)
    output_of([ours, "build", fresh, count, 1])
    ideal = folder_bytes(fresh)
    return {
        "open.space_after_compact": {
            **figure([after / ideal], "times the space of a fresh copy"),
            "documents": count, "bytes_before": before, "bytes_after": after, "bytes_fresh": ideal,
        }
    }
