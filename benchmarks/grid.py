"""The tour by `dvc repro` beside the tour by `deepnets grid`, in clones of this commit; one run.

Three ways, one after the other: `deepnets repro` (a training at a time, on all cores), `deepnets
grid --jobs 1` and `deepnets grid` (a core each). Each starts from nothing but the clone and ends
with the report and MLflow. Prints their times, the ratios, and whether all results are the same.
"""

import argparse
import filecmp
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

ROOT = Path(__file__).parents[1]
STUDY = "studies/tour"
WAYS = {
    "dvc repro": ["repro", STUDY],
    "grid --jobs 1": ["grid", STUDY, "--jobs", "1"],
    "grid": ["grid", STUDY],
}
# What holds the clock, or says on how many cores it was computed.
OTHERWISE = {"timing.csv", "provenance.json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="leave the clones in this folder")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as folder:
        clones = {name: (keep or Path(folder)) / name.replace(" ", "") for name in WAYS}
        seconds = {name: _time_command(clones[name], words) for name, words in WAYS.items()}
        same = {name: _are_same(clones["dvc repro"], there) for name, there in clones.items()}
    print(machine.heading(machine.describe()))
    for name, taken in seconds.items():
        said = "the same files, to the bit" if same[name] else "OTHER RESULTS"
        print(f"{name:14} {taken:6.0f} s   {seconds['dvc repro'] / taken:.2f}   {said}")
    print(json.dumps(seconds))


def _time_command(folder: Path, words: list[str]) -> float:
    """Seconds of `deepnets` in a new clone without the tour's results, from the first stage on."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    for name in ("metrics", "reports"):
        subprocess.run(["git", "rm", "-rq", f"{STUDY}/{name}"], cwd=folder, check=True)
    (folder / STUDY / "dvc.lock").unlink()
    variables = {"PYTHONPATH": str(folder / "src"), "PATH": f"{Path(sys.executable).parent}:"}
    environment = os.environ | variables | {"PATH": variables["PATH"] + os.environ["PATH"]}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "deepnets", *words], cwd=folder, env=environment, check=True
    )
    return time.perf_counter() - started


def _are_same(clone: Path, other: Path) -> bool:
    """Whether all numbers and models of both are the same."""
    for folder in ("metrics", "models"):
        there = clone / STUDY / folder
        for path in sorted(path for path in there.rglob("*") if path.is_file()):
            twin = other / STUDY / folder / path.relative_to(there)
            if path.name not in OTHERWISE and not (
                twin.is_file() and filecmp.cmp(path, twin, shallow=False)
            ):
                print(f"{path} differs from {twin}")
                return False
    return True


if __name__ == "__main__":
    main()
