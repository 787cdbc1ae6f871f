"""The speed of training, as ratios: this project against what people would otherwise run.

    make bench                                    everything, about 15 minutes on two cores
    python benchmarks/bench.py --arch resnet50    only some of it, see --help

Every ratio is of times measured in turns, in this run, on this machine. The table goes to the
terminal and, with machine and versions, to benchmarks/results/.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

import machine
from deepnets.base import files
from deepnets.networks import runtime

HERE = Path(__file__).parent
TOUR = HERE.parent / "studies" / "tour"

# What each ratio is meant to reach. Time of the other side over ours; for arithmetic, the time of
# the network's multiply-adds alone over ours.
TARGETS = {
    "vgg16": {"stock": 5.0, "pytorch": 1.35, "arithmetic": 0.85},
    "resnet50": {"stock": 8.0, "pytorch": 1.6, "arithmetic": 0.45},
}
_SLOW = "stock, oneDNN off"
SIDES = {
    "ours": "this project",
    "stock": "Keras fit as installed",
    _SLOW: "the same with TF_ENABLE_ONEDNN_OPTS=0",
    "pytorch": "PyTorch eager, channels-last",
}
# What another way of a side is told, and by which variable.
FREE = "ours, not deterministic"
_VARIABLES = {_SLOW: {"TF_ENABLE_ONEDNN_OPTS": "0"}, FREE: {"BENCHMARK_DETERMINISTIC": "0"}}
# Full scale, for the share of an epoch that is not training.
_STEPS, _VALIDATION_IMAGES = 1562, 10_000
_VALIDATED = 512
# How often each wait is measured.
_WAITS = 3


# The variables that whoever runs this has set.
_USERS = frozenset(os.environ)


@dataclass
class Measurements:
    """What was measured for one network and optimizer; all lists have an entry a round."""

    arch: str
    optimizer: str
    milliseconds: dict[str, list[float]] = field(default_factory=dict)  # a step, by side
    arithmetic: list[float] = field(default_factory=list)  # the multiply-adds of a step alone
    rounds: list[dict[str, float]] = field(default_factory=list)  # what ours.py answers

    def ratio(self, side: str) -> float | None:
        """Median over the rounds of a side's time over ours; for arithmetic likewise."""
        times = self.arithmetic if side == "arithmetic" else self.milliseconds.get(side)
        if not times:
            return None
        pairs = zip(times, self.milliseconds["ours"], strict=True)
        return statistics.median(other / ours for other, ours in pairs)


class Side:
    """A process that trains one network one way; see common.py."""

    def __init__(self, name: str, arch: str, optimizer: str, stack: ExitStack) -> None:
        script = name.partition(",")[0]
        environment = dict(os.environ)
        # This process has settings of ours by now, and the sides are to choose theirs.
        for key in set(runtime.environment()) - _USERS:
            environment.pop(key, None)
        environment |= _VARIABLES.get(name, {})
        self._command = [sys.executable, str(HERE / f"{script}.py"), arch, optimizer]
        self._log = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115
        self._process = stack.enter_context(
            subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                text=True,
            )
        )
        stack.callback(self._process.stdin.close)  # type: ignore[union-attr]

    def train(self, steps: int) -> dict[str, float]:
        """Have it train `steps` steps; returns its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{' '.join(self._command)} ended early:\n{self._log.read()[-2000:]}")
        answer: dict[str, float] = json.loads(line)
        return answer


def measure(
    arch: str, optimizer: str, sides: list[str], rounds: int, steps: int, bar: Any
) -> Measurements:
    """Time `steps` steps of each side in turns, `rounds` times, after one round for warming up.

    Turns are short and many, since a shared machine changes its speed by the minute.
    """
    result = Measurements(arch, optimizer, {side: [] for side in sides})
    with ExitStack() as stack:
        running = {}
        for side in sides:
            bar.set_description(f"{arch} {optimizer}: {side} starts")
            running[side] = Side(side, arch, optimizer, stack)
            running[side].train(steps)
            bar.update()
        product = Side("product", arch, optimizer, stack)
        multiply_adds = step_multiply_adds(arch)
        for number in range(rounds):
            bar.set_description(f"{arch} {optimizer}: round {number + 1} of {rounds}")
            for side, process in running.items():
                answer = process.train(steps)
                result.milliseconds[side].append(1000 * answer["seconds"] / steps)
                if side == "ours":
                    result.rounds.append(answer)
                    rate = product.train(1)["multiply_adds_per_second"]
                    result.arithmetic.append(1000 * multiply_adds / rate)
                bar.update()
    return result


def step_multiply_adds(arch: str) -> float:
    """Multiply-adds of a training step of 32 images, padding included.

    Each convolution is computed three times, forward and for both gradients; the first one needs
    no gradient for the pixels.
    """
    runtime.start_framework()
    import keras

    from deepnets.networks import models

    classifier = models.build(arch, 32, 0.5)
    total = 0
    for layer in [*classifier.get_layer(arch).layers, classifier.get_layer("logits")]:
        if isinstance(layer, keras.layers.Conv2D):
            _, height, width, _ = layer.output.shape
            times = 2 if layer.kernel.shape[2] == 3 else 3
            total += times * height * width * int(layer.kernel.value.shape.num_elements())
        elif isinstance(layer, keras.layers.Dense):
            total += 3 * int(layer.kernel.value.shape.num_elements())
    return 32.0 * total


def shares_elsewhere(result: Measurements) -> dict[str, float]:
    """The share of a full epoch, 1,562 steps and 10,000 validation images, that is neither.

    What a step costs besides its compiled function, and a validation image besides the forward
    pass, is measured on short epochs and scaled; an epoch's checkpoint counts once.
    """
    steps = statistics.median(r["seconds"] - r["in_steps"] for r in result.rounds)
    count = _count(result)
    # Batches are predicted side by side: the seconds inside are those of all threads together.
    threads = runtime.prediction_threads()
    validation = statistics.median(
        r["validation"] - r["in_predictions"] / threads for r in result.rounds
    )
    saving = statistics.median(r["saving"] for r in result.rounds)
    training = _STEPS / count * statistics.median(r["in_steps"] for r in result.rounds)
    parts = {
        "steps": _STEPS / count * steps / training,
        "validation": _VALIDATION_IMAGES / _VALIDATED * validation / training,
        "checkpoint": saving / training,
    }
    return parts | {"all": sum(parts.values())}


def _count(result: Measurements) -> int:
    """Steps in a round of `result`."""
    first = result.rounds[0]
    return round(1000 * first["seconds"] / result.milliseconds["ours"][0])


@contextmanager
def study() -> Iterator[Path]:
    """A folder with the tour's parameters, digits and starting weights, ready for training."""
    with tempfile.TemporaryDirectory(prefix="deepnets-benchmark-") as name:
        folder = Path(name)
        shutil.copy(TOUR / "params.yaml", folder)
        for command in ("download", "preprocess", "initialize vgg16-he", "initialize resnet50-he"):
            run([sys.executable, "-m", "deepnets", *command.split()], folder)
        yield folder


def seconds_to_first_step(arch: str, folder: Path) -> float:
    """From the start of `deepnets train` to the end of its first training step."""
    started = time.time()
    printed = run([sys.executable, str(HERE / "first_step.py"), "train", f"{arch}-sgd-he"], folder)
    match = re.search(r"^first step ended at ([\d.]+)$", printed, re.MULTILINE)
    if not match:
        raise SystemExit(f"no first step was seen in:\n{printed}")
    return float(match[1]) - started


def waits(bar: Any) -> dict[str, float | None]:
    """Median seconds that people wait for, other than training; None for what was not measured."""
    seconds: dict[str, list[float]] = {}
    with study() as folder:
        for _ in range(_WAITS):
            for arch in TARGETS:
                bar.set_description(f"{arch}: to the first step")
                key = f"deepnets train to the first step, {arch}"
                seconds.setdefault(key, []).append(seconds_to_first_step(arch, folder))
                bar.update()
    for _ in range(_WAITS):
        seconds.setdefault("deepnets --help", []).append(
            _seconds([sys.executable, "-m", "deepnets", "--help"], HERE)
        )
    no_op = "dvc repro with nothing to do (tour)"
    made = all((TOUR / "models" / f"{arch}-sgd-he").is_dir() for arch in TARGETS)
    dry = [sys.executable, "-m", "dvc", "repro", "--dry"]
    if made and "deepnets train" not in run(dry, TOUR):
        bar.set_description(no_op)
        for _ in range(_WAITS):
            seconds.setdefault(no_op, []).append(
                _seconds([sys.executable, "-m", "dvc", "repro"], TOUR)
            )
    medians: dict[str, float | None] = {
        key: statistics.median(values) for key, values in seconds.items()
    }
    return medians | ({} if no_op in seconds else {no_op: None})


def _seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    run(command, folder)
    return time.perf_counter() - started


def run(command: list[str], folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """What `command` prints; it must succeed. The stages of dvc use this very Python.

    It gets the variables that whoever runs this has set, and `variables`.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {k: v for k, v in os.environ.items() if k in _USERS}
    environment = {**kept, "PATH": path, **(variables or {})}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def describe(results: list[Measurements]) -> str:
    """The tables of training, in Markdown: ratios first, then where an epoch's time goes."""
    ratios, parts = [], []
    for result in results:
        ours = statistics.median(result.milliseconds["ours"])
        row = [result.arch, result.optimizer, f"{ours:.0f}", f"{32_000 / ours:.0f}"]
        for side in (*list(SIDES)[1:], "arithmetic"):
            ratio, target = result.ratio(side), TARGETS[result.arch].get(side)
            percent = side == "arithmetic"
            row.append("not run" if ratio is None else _format_ratio(ratio, percent))
            if target is not None:
                row.append(_format_ratio(target, percent))
        ratios.append(row)
        shares = shares_elsewhere(result)
        parts.append([result.arch, result.optimizer, *(f"{x:.2%}" for x in shares.values())])
    return "\n\n".join(
        [
            "Times of the others over ours, a training step of 32 images; 'arithmetic' is the time "
            "of the multiply-adds alone, at the rate of a 4096-cubed float32 product, over ours.",
            _table(
                ratios,
                [*_HEADERS],
            ),
            "Share of a full epoch (1,562 steps, 10,000 validation images) that is neither a "
            "compiled step nor a forward pass of the validation; target: under 2 % in all.",
            _table(parts, ["network", "optimizer", "steps", "validation", "checkpoint", "all"]),
        ]
    )


def describe_waits(waited: dict[str, float | None]) -> str:
    """The table of what people wait for, in Markdown."""
    rows = [
        [what, "not measured: run `make tour` first" if s is None else f"{s:.2f}", f"{limit}"]
        for (what, s), limit in zip(waited.items(), _limits(waited), strict=True)
    ]
    return f"Seconds until something happens.\n\n{_table(rows, _WAITS_HEADERS)}"


_HEADERS = (
    *("network", "optimizer", "ours, ms a step", "images/s", "Keras as installed", "target"),
    *("the same, oneDNN off", "PyTorch", "target", "arithmetic", "target"),
)


_WAITS_HEADERS = ["what", "seconds", "target: under"]


def _limits(waited: dict[str, float | None]) -> list[float]:
    limits = {"deepnets train": 12, "deepnets --help": 0.5, "dvc repro": 10}
    return [next(v for k, v in limits.items() if what.startswith(k)) for what in waited]


def _format_ratio(ratio: float, percent: bool) -> str:
    return f"{ratio:.0%}" if percent else f"{ratio:.2f}x"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    return str(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def main() -> None:
    """Measure, print, and write benchmarks/results/."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=TARGETS, help="only this network (default: both)")
    parser.add_argument("--optimizer", choices=["adam", "sgd"], help="only this one")
    parser.add_argument("--sides", help=f"of {', '.join(SIDES)}, with / between (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--steps", type=int, default=3, help="steps a round (default: 3)")
    parser.add_argument("--no-waits", action="store_true", help="leave out start-up times")
    arguments = parser.parse_args()

    sides = arguments.sides.split("/") if arguments.sides else list(SIDES)
    if unknown := set(sides) - set(SIDES):
        parser.error(f"expected sides of {', '.join(SIDES)}; received {', '.join(unknown)}")
    if "ours" not in sides:
        sides.insert(0, "ours")
    if "pytorch" in sides and find_spec("torch") is None:
        print("PyTorch is not installed: its column is left out (see benchmarks/requirements.txt)")
        sides.remove("pytorch")
    runtime.start_framework()
    pairs = [
        (arch, optimizer)
        for arch in ([arguments.arch] if arguments.arch else TARGETS)
        for optimizer in ([arguments.optimizer] if arguments.optimizer else ["sgd", "adam"])
    ]
    started = time.time()
    total = sum(len(_sides(sides, optimizer)) for _, optimizer in pairs) * (arguments.rounds + 1)
    total += 0 if arguments.no_waits else 2 * _WAITS
    with tqdm(total=total, leave=False, dynamic_ncols=True) as bar:
        results = [
            measure(
                arch, optimizer, _sides(sides, optimizer), arguments.rounds, arguments.steps, bar
            )
            for arch, optimizer in pairs
        ]
        print(describe(results), flush=True)
        waited = {} if arguments.no_waits else waits(bar)
    print(f"\n{describe_waits(waited)}")
    chosen = (arguments.arch, arguments.optimizer, arguments.sides)
    if chosen == (None, None, None) and not arguments.no_waits:
        _write(results, waited, time.time() - started)


def _sides(sides: list[str], optimizer: str) -> list[str]:
    """Those to measure with an optimizer: a step without oneDNN takes seconds."""
    return [side for side in sides if (side, optimizer) != (_SLOW, "adam")]


def _write(results: list[Measurements], waited: dict[str, float | None], seconds: float) -> None:
    """Write the tables and all that was measured, named after the machine."""
    described = machine.describe()
    path = machine.path(described)
    files.write_json(
        path.with_suffix(".json"),
        {
            "machine": described,
            "seconds": round(seconds),
            "results": [asdict(result) for result in results],
            "waits": waited,
        },
    )
    text = "\n\n".join([machine.heading(described), describe(results), describe_waits(waited)])
    files.write_text(path.with_suffix(".md"), text + "\n")
    print(f"\nwritten to {path.with_suffix('.md')} and .json")


if __name__ == "__main__":
    main()
