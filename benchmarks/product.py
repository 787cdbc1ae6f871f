"""The arithmetic that the machine is capable of: a 4096-cubed float32 product on all cores.

    python benchmarks/product.py

Answers any number on standard input with the multiply-adds a second of the best of three.
"""

import os
import sys
import time

# All cores for the one operation, whatever training uses.
os.environ["TF_NUM_INTRAOP_THREADS"] = "0"

from common import answers
from deepnets.networks import runtime

runtime.start_framework()

import tensorflow as tf  # noqa: E402

_SIDE = 4096


def main() -> None:
    """Serve measurements."""
    send = answers()
    matrix = tf.random.stateless_normal((_SIDE, _SIDE), (0, 0))
    multiply = tf.function(lambda matrix: tf.matmul(matrix, matrix))
    multiply(matrix)
    for _ in sys.stdin:
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            multiply(matrix).numpy()
            seconds.append(time.perf_counter() - started)
        send({"multiply_adds_per_second": _SIDE**3 / min(seconds)})


if __name__ == "__main__":
    main()
