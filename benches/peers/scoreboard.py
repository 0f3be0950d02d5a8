#!/usr/bin/env python3
"""Measures one area of Stratal against its rivals, side by side in the same run.

    python3 benches/peers/scoreboard.py AREA [--quick]

Prints one JSON object, {key: {"value", "unit", "runs", "command"}}, and writes the
same, with date and machine, to benches/results/AREA.json (--quick: AREA.quick.json,
which git ignores). Progress goes to stderr. README.md beside this file says what each
key means and how the comparison is kept fair.
"""

import argparse
import importlib
import json
import sys

import surroundings

AREAS = {
    # area: needs the Python packages of requirements.txt
    "encode": True,
    "retrieval": True,
    "learning": False,
    "reembed": False,
    "train": True,
    "mlr": False,
    "commit": False,
    "open": False,
    "filtered": True,
    "build": False,
    "approximate": True,
    "exact": True,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer runs: at most ten minutes")
    arguments = parser.parse_args()

    if AREAS[arguments.area]:
        surroundings.enter_virtual_environment()
    command = "python3 benches/peers/scoreboard.py " + arguments.area + (" --quick" if arguments.quick else "")
    area = importlib.import_module("areas." + arguments.area)
    name = f"{arguments.area}.quick.json" if arguments.quick else f"{arguments.area}.json"
    answer = {}
    try:
        figures = area.measure(arguments.quick)
        # An area that takes long hands over what it has as it goes, so that an end before its own loses little.
        for part in [figures] if isinstance(figures, dict) else figures:
            answer |= {key: {**figure, "command": command} for key, figure in part.items()}
            stamped = {"date": surroundings.today(), "machine": surroundings.machine(), **answer}
            surroundings.RESULTS.mkdir(exist_ok=True)
            (surroundings.RESULTS / name).write_text(json.dumps(stamped, indent=2) + "\n")
    except surroundings.Missing as missing:
        print(f"scoreboard: {missing}", file=sys.stderr)
        return 2

    print(json.dumps(answer, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
