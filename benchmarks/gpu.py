"""The speed of training on an NVIDIA GPU: this project, plain Keras on JAX, and PyTorch.

    python benchmarks/gpu.py                  all of it in one run, about ten minutes on an H200
    python benchmarks/gpu.py --check          only whether whole epochs compute what steps compute

One process at a time has the GPU. Pixels are made up, 50,000 images, since a step takes as long
whatever they show. Needs neither MLflow, DVC nor TensorFlow; PyTorch's columns need PyTorch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

from common import BATCH, SIZE, recipe

SIDES = {
    "ours": "this project",
    "keras": "plain Keras `fit` on JAX",
    "repeatable": "the same with `--xla_gpu_deterministic_ops`",
    "eager": "PyTorch eager",
    "captured": "PyTorch, its whole step as a CUDA graph",
}
# Milliseconds a step, and the others' time over ours.
TARGETS = {"vgg16": 1.45, "resnet50": 3.0}
_IMAGES, _VALIDATION = 50_000, 10_000
_STEPS = _IMAGES // BATCH
# Rounds, of an epoch, and of so many steps for PyTorch.
_REPEATS, _ROUND = 3, 400
# Steps that both ways are compared after. Rounding grows: after 20 steps of VGG-16 from He's
# weights on made-up pixels, weights that began 1e-7 apart are a sixth of the way apart.
_CHECKED = 4


def pixels(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Made-up images, uint8 (n, 32, 32, 3), and labels, uint8 (n,)."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    return images, generator.integers(0, 10, count).astype(np.uint8)


def ours(arch: str, optimizer: str, only_first: bool) -> dict[str, Any]:
    """Epochs by `training.loop.fit`, checkpoints, validation and all; see `_describe`.

    With `only_first` it ends where the first step can be taken.
    """
    from deepnets.networks import runtime
    from deepnets.records import machine

    runtime.start_framework()
    from deepnets.data import splits
    from deepnets.networks import models
    from deepnets.stages import train
    from deepnets.training import jax_steps, loop, steps
    from deepnets.training.checkpoints import Rows

    run = recipe(arch, optimizer).model_copy(update={"epochs": _REPEATS + 1})
    classifier = models.initialize(run.arch, run.weights, run.seed, SIZE)
    for layer in classifier.get_layer(arch).layers:
        if hasattr(layer, "momentum"):
            layer.momentum = run.batch_norm_momentum
    training, validation = (splits.Split(*pixels(n)) for n in (_IMAGES, _VALIDATION))
    stepper = steps.for_run(classifier, run, training)
    # As a training begins: this compiles, so that the first epoch starts when its first step can.
    stepper.program(training, run)
    repeats = stepper.repeats(training, run)
    first_s = time.time() - psutil.Process().create_time()
    if only_first:
        return {"first_s": first_s, "ms": []}
    ends: list[float] = []
    with TemporaryDirectory() as name, loop.after_one_another(runtime.on_jax_gpu()) as submit:
        folder = Path(name)
        write = train.epoch_saver(folder, run, submit)

        def save(rows: Rows, variables: list[Any]) -> None:
            ends.append(time.perf_counter())
            write(rows, variables)

        rows, _ = loop.fit(classifier, run, training, validation, folder, save, stepper=stepper)
    alone = None  # where the device is fed each step
    if isinstance(stepper, jax_steps.DeviceStepper):
        alone = 1000 * stepper.seconds_alone(training, run) / _STEPS
    whole = [after - before for before, after in pairwise(ends)]
    return {
        "first_s": first_s,
        "ms": [1000 * row["seconds"] / _STEPS for row in rows.timing[1:]],
        "validation_ms": [1000 * row["validation_seconds"] for row in rows.timing[1:]],
        "epoch_s": whole,
        "alone_ms": alone,
        "described": machine.describe(run.precision, repeats),
    }


def keras(arch: str, optimizer: str) -> dict[str, Any]:
    """`fit` of the plain network on warped batches that are made by a Keras layer, JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    from deepnets.training import augment

    run = recipe(arch, optimizer)
    network = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[arch]
    images = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    transforms = keras.Input((8,))
    x = augment.Warp()(images, transforms)
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(x)
    x = network(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")(x)
    x = keras.layers.Dropout(run.dropout)(x)
    model = keras.Model([images, transforms], keras.layers.Dense(10)(x))
    rule = (
        keras.optimizers.Adam(run.learning_rate)
        if optimizer == "adam"
        else keras.optimizers.SGD(run.learning_rate, run.flat["momentum"])
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(rule, loss, metrics=["accuracy"])
    count = _STEPS * BATCH
    drawn = augment.draw_transforms(np.random.default_rng(0), count, SIZE, 10, 0.1, 0.1)
    shown, labels = pixels(count)

    def train(steps: int) -> None:
        some = slice(0, steps * BATCH)
        inputs = [shown[some], drawn[some]]
        model.fit(inputs, labels[some], batch_size=BATCH, epochs=1, verbose=0)

    # Epochs, since `fit` takes time of its own beside the steps, once an epoch.
    return _time_steps(lambda: train(1), lambda: train(_STEPS), _STEPS)


def pytorch(arch: str, optimizer: str, captured: bool) -> dict[str, Any]:
    """The step on images that are on the device: launch by launch, or captured and replayed.

    TF32 for products, channels-last, fused updates, the fastest convolutions by measurement; a
    learning rate that does not decay.
    """
    import torch

    import pytorch as networks
    from deepnets.training import augment

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    run = recipe(arch, optimizer)
    model = networks.network(arch, run.dropout).cuda()
    factor, offset = networks.scale(arch)
    rule: torch.optim.Optimizer
    if optimizer == "adam":
        rule = torch.optim.Adam(
            model.parameters(),
            run.learning_rate,
            eps=run.flat["epsilon"],
            fused=True,
            capturable=captured,
        )
    else:
        rule = torch.optim.SGD(
            model.parameters(), run.learning_rate, momentum=run.flat["momentum"], fused=True
        )
    images, labels = (torch.from_numpy(array).cuda() for array in pixels(_IMAGES))
    labels = labels.long()
    count = _STEPS * BATCH
    drawn = augment.draw_transforms(np.random.default_rng(0), count, SIZE, 10, 0.1, 0.1)
    order = torch.randperm(_IMAGES)[:count].reshape(_STEPS, BATCH).cuda()
    transforms = torch.from_numpy(drawn).reshape(_STEPS, BATCH, 8).cuda()

    def step(chosen: torch.Tensor, transform: torch.Tensor) -> torch.Tensor:
        x = networks.warp(images[chosen].permute(0, 3, 1, 2).float(), transform)
        x = (x * factor + offset).contiguous(memory_format=torch.channels_last)
        rule.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x), labels[chosen])
        loss.backward()
        rule.step()
        return loss.detach()

    take: Callable[[int], Any] = lambda number: step(order[number], transforms[number])  # noqa: E731
    if captured:
        inputs = order[0].clone(), transforms[0].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(8):
                step(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(*inputs)

        def take(number: int) -> None:
            inputs[0].copy_(order[number])
            inputs[1].copy_(transforms[number])
            graph.replay()

    def train(steps: int) -> None:
        for number in range(steps):
            take(number)
        torch.cuda.synchronize()

    return _time_steps(lambda: train(20), lambda: train(_ROUND), _ROUND)


def _time_steps(first: Callable[[], None], steps: Callable[[], None], count: int) -> dict[str, Any]:
    """Seconds of `first`, then milliseconds of one of the `count` steps, several times."""
    started = time.perf_counter()
    first()
    timing: dict[str, Any] = {"first_s": time.perf_counter() - started, "ms": []}
    steps()
    for _ in range(_REPEATS):
        started = time.perf_counter()
        steps()
        timing["ms"].append(1000 * (time.perf_counter() - started) / count)
    return timing


def check(arch: str, optimizer: str) -> dict[str, Any]:
    """How far whole epochs are from steps one by one after some of them, in exact float32."""
    from deepnets.networks import runtime

    runtime.start_framework()
    from deepnets.data import splits
    from deepnets.networks import models, variants, views
    from deepnets.training import batches, steps

    run = recipe(arch, optimizer).model_copy(update={"precision": "exact_float32"})
    # Small steps, and blocks that start as the identity: rounding does not grow on the way.
    small = {"learning_rate": 1e-3, "decay": 0.0, "zero_gamma": arch == "resnet50"}
    if optimizer == "adam":
        small["epsilon"] = 0.1
    run = run.model_copy(update=small)
    images, labels = pixels(_CHECKED * BATCH)
    split = splits.Split(images, labels)

    programs = []

    def train_and_copy(by_step: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        classifier = models.initialize(run.arch, "he", 0, SIZE)
        variants.start(classifier, classifier, run)
        before = np.concatenate([weight.ravel() for weight in classifier.get_weights()])
        with views.computing_in(classifier, run.precision):
            stepper = steps.for_run(classifier, run, split)
            if by_step:
                with stepper.epoch() as take:
                    for batch in batches.batches(split, run, 1):
                        take(batch)
            else:
                programs.append(stepper.program(split, run))
                for _ in stepper.train(split, run, 1):
                    pass
        after = np.concatenate([weight.ravel() for weight in classifier.get_weights()])
        return before, after

    before, by_step = train_and_copy(by_step=True)
    _, whole = train_and_copy(by_step=False)
    _, again = train_and_copy(by_step=False)
    return {
        "moved": float(np.linalg.norm(by_step - before)),
        "difference": float(np.linalg.norm(whole - by_step)),
        "same_again": bool(np.array_equal(whole, again)),
        "same_program": programs[0] == programs[1],
    }


def _run(side: str, arch: str, optimizer: str, compiled: str = "") -> dict[str, Any]:
    """What a process of its own finds, or how it `failed`; `compiled` keeps its programs."""
    command = [sys.executable, __file__, "--side", side, "--arch", arch, "--optimizer", optimizer]
    environment = dict(os.environ)
    if compiled:
        environment["JAX_COMPILATION_CACHE_DIR"] = compiled
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    if side == "repeatable":
        # What JAX has a user set for the same bits again.
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true"
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    with suppress(IndexError, json.JSONDecodeError):
        answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return answer
    return {"failed": ended.stdout[-500:] + ended.stderr[-2000:]}


def _answer(side: str, arch: str, optimizer: str) -> dict[str, Any]:
    if side in ("eager", "captured"):
        return pytorch(arch, optimizer, side == "captured")
    if side in ("first", "ours"):
        return ours(arch, optimizer, side == "first")
    return check(arch, optimizer) if side == "check" else keras(arch, optimizer)


def _describe(results: dict[str, dict[str, Any]], checks: dict[str, dict[str, Any]]) -> str:
    """All tables, in Markdown. Keys are `arch optimizer side` and `arch optimizer`."""
    rows, shares = [], []
    for key in dict.fromkeys(key.rpartition(" ")[0] for key in results):
        arch, optimizer = key.split()
        times = {
            side: statistics.median(results[f"{key} {side}"]["ms"])
            for side in SIDES
            if f"{key} {side}" in results
        }
        row = [arch, optimizer, f"{times['ours']:.2f}", f"{TARGETS[arch]:.2f}"]
        for side in list(SIDES)[1:]:
            known = side in times
            row.append(f"{times[side]:.2f}" if known else "not run")
            row.append(f"{times[side] / times['ours']:.2f}x" if known else "")
        rows.append(row)
        mine = results[f"{key} ours"]
        epoch = statistics.median(mine["epoch_s"])
        scored = statistics.median(mine["validation_ms"]) / 1000
        nothing = results[f"{key} first"]["first_s"]
        parts = [arch, optimizer, f"{epoch:.2f}", f"{scored:.3f}"]
        parts += [f"{nothing:.1f}", f"{mine['first_s']:.1f}"]
        if mine["alone_ms"] is not None:
            rest = epoch - scored - mine["alone_ms"] * _STEPS / 1000
            parts += [f"{mine['alone_ms']:.2f}", f"{rest / epoch:.1%}"]
        shares.append(parts)
    headers = ["network", "optimizer", "ours, ms a step", "target"]
    for side in list(SIDES)[1:]:
        headers += [SIDES[side], "over ours"]
    whole = ["network", "optimizer", "epoch, s", "of it validation"]
    whole += ["to first step, s", "the same with the compilation cache"]
    whole += ["steps alone, ms", "share that is neither"]
    checked = [
        [
            *key.split(),
            *(f"{result['moved']:.3g}", f"{result['difference']:.2g}"),
            *(result["same_again"], result["same_program"]),
        ]
        for key, result in checks.items()
    ]
    compared = ["network", "optimizer", "weights moved", "ways differ by"]
    compared += ["same bits again", "same kernels again"]
    return "\n\n".join(
        [
            f"Milliseconds a training step of {BATCH} images, augmentation included; medians of "
            f"{_REPEATS} epochs (ours, Keras) or as many rounds of {_ROUND} steps.",
            tabulate(rows, headers, tablefmt="github", disable_numparse=True),
            f"An epoch of {_STEPS:,} steps with {_VALIDATION:,} validation images and checkpoint.",
            tabulate(shares, whole, tablefmt="github", disable_numparse=True),
            f"{_CHECKED} steps in exact float32 as a part of an epoch on the device, beside one by "
            "one: norms over all weights.",
            tabulate(checked, compared, tablefmt="github", disable_numparse=True),
        ]
    )


def main() -> None:
    """Measure, print, and write benchmarks/results/."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=TARGETS, help="default: both")
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd", help="default: sgd")
    parser.add_argument(
        "--side", choices=["first", *SIDES, "check"], help="only this, as a line of JSON"
    )
    parser.add_argument("--check", action="store_true", help="only the comparison of both ways")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(_answer(arguments.side, arguments.arch, arguments.optimizer)))
        return
    pairs = [
        (arch, arguments.optimizer) for arch in ([arguments.arch] if arguments.arch else TARGETS)
    ]
    with ThreadPoolExecutor() as pool:
        checked = pool.map(lambda pair: _run("check", *pair), pairs)
        checks = {" ".join(pair): result for pair, result in zip(pairs, checked, strict=True)}
    print(json.dumps(checks, indent=2), flush=True)
    if arguments.check:
        raise SystemExit(any("failed" in result for result in checks.values()))
    sides = [
        side for side in SIDES if side in ("ours", "keras", "repeatable") or find_spec("torch")
    ]
    work = [(*pair, side) for pair in pairs for side in ["first", *sides]]
    results: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder, tqdm(work, leave=False, dynamic_ncols=True) as bar:
        for arch, optimizer, side in bar:
            bar.set_description(f"{arch} {optimizer}: {side}")
            compiled = folder if side in ("first", "ours") else ""
            answer = results[f"{arch} {optimizer} {side}"] = _run(side, arch, optimizer, compiled)
            # At once, for whoever's time on the card ends before the table.
            print(json.dumps({f"{arch} {optimizer} {side}": answer}), flush=True)
    failed = {
        key: result["failed"] for key, result in (results | checks).items() if "failed" in result
    }
    for key, why in failed.items():
        print(f"{key} failed:\n{why}", file=sys.stderr)
    if any(
        "failed" in result for key, result in results.items() if key.endswith(("first", "ours"))
    ):
        raise SystemExit(1)
    measured = {key: result for key, result in results.items() if "failed" not in result}
    checks = {key: result for key, result in checks.items() if "failed" not in result}
    text = _describe(measured, checks)
    print(text)
    if arguments.arch is None:
        _write(measured, checks, text, arguments.optimizer)
    raise SystemExit(bool(failed))


def _write(results: dict[str, Any], checks: dict[str, Any], text: str, optimizer: str) -> None:
    """Write the tables and all that was measured, named after the GPU."""
    import machine
    from deepnets.base import files

    described = next(result["described"] for key, result in results.items() if key.endswith("ours"))
    device = described["hardware"]["devices"][0]
    path = machine.RESULTS / f"gpu-{machine.slug(device)}-{optimizer}"
    content = {"machine": described, "results": results, "checks": checks}
    files.write_json(path.with_suffix(".json"), content)
    versions = described["versions"]
    libraries = ", ".join(
        f"{name} {versions[name]}" for name in ("jax", "keras") if name in versions
    )
    heading = f"# {device}\n\nPython {versions['python']}, {libraries}."
    files.write_text(path.with_suffix(".md"), f"{heading}\n\n{text}\n")
    print(f"\nwritten to {path.with_suffix('.md')} and .json")


if __name__ == "__main__":
    main()
