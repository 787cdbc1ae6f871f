"""What determinism costs: a training step with TensorFlow's deterministic operations and without.

    python benchmarks/determinism.py        about 4 minutes on two cores

Every run of this project is deterministic, so that it can be rebuilt to the bit.
"""

import statistics

from tabulate import tabulate
from tqdm import tqdm

from bench import FREE, TARGETS, measure

_ROUNDS, _STEPS = 7, 4


def main() -> None:
    """Measure both networks with both optimizers, and print a table."""
    rows = []
    sides = ["ours", FREE]
    with tqdm(total=4 * len(sides) * (_ROUNDS + 1), leave=False, dynamic_ncols=True) as bar:
        for arch in TARGETS:
            for optimizer in ("sgd", "adam"):
                result = measure(arch, optimizer, sides, _ROUNDS, _STEPS, bar)
                ours = result.milliseconds["ours"]
                ratios = [a / b for a, b in zip(ours, result.milliseconds[FREE], strict=True)]
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                medians = statistics.median(ours), statistics.median(ratios)
                rows.append([arch, optimizer, *medians, spread])
    headers = ["network", "optimizer", "ms a step", "over not deterministic", "in single rounds"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", "", ".0f", ".2f", "")))


if __name__ == "__main__":
    main()
