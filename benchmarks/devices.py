"""A training step on one device, and on all devices that JAX sees; see docs/devices.md.

    KERAS_BACKEND=jax python benchmarks/devices.py

On a CPU XLA_FLAGS=--xla_force_host_platform_device_count=2 makes two devices of it. Pixels are made
up, and both sides take turns.
"""

import argparse
import statistics
import time

import numpy as np
from tabulate import tabulate

from common import SIZE, recipe


def milliseconds(arch: str, batch: int, steps: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds a step of `arch`, with SGD: on one device, and on all."""
    import jax

    from deepnets.data.splits import Split
    from deepnets.networks import models
    from deepnets.training import devices
    from deepnets.training import steps as training_steps

    run = recipe(arch, "sgd").model_copy(update={"batch_size": batch, "epochs": rounds + 1})
    generator = np.random.default_rng(0)
    count = batch * steps
    pixels = generator.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    training = Split(pixels, generator.integers(0, 10, count).astype(np.uint8))
    mesh = devices.mesh(devices.Devices(jax.device_count()))
    sides: list[training_steps.Stepper] = []
    for placed in (None, mesh):
        classifier = models.initialize(run.arch, run.weights, run.seed, SIZE)
        sides.append(training_steps.for_run(classifier, run, training, placed))
    took: list[list[float]] = [[], []]
    for epoch in range(1, rounds + 2):
        for side, times in zip(sides, took, strict=True):
            started = time.perf_counter()
            for _ in side.train(training, run, epoch):
                pass
            times.append(1000 * (time.perf_counter() - started) / steps)
    alone, shared = (statistics.median(times[1:]) for times in took)  # the first compiles
    return alone, shared


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", nargs="+", default=["vgg16", "resnet50"])
    parser.add_argument("--batch", nargs="+", type=int, default=[32, 256, 1024])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    from deepnets.networks import runtime

    runtime.start_framework()
    import jax

    rows = []
    for arch in given.arch:
        for batch in given.batch:
            alone, shared = milliseconds(arch, batch, given.steps, given.rounds)
            rows.append((arch, batch, alone, shared, alone / shared))
    there = f"{jax.device_count()} devices ({jax.devices()[0].device_kind})"
    heads = ("network", "batch", "one device, ms a step", f"{there}, ms a step", "gain")
    print(tabulate(rows, heads, floatfmt=("", "", ".1f", ".1f", ".2f"), tablefmt="github"))


if __name__ == "__main__":
    main()
