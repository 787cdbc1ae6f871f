"""What a user has set for all projects, and what must not reach into this one.

It imports no framework, and runs before one is imported.
"""

import os

# What they say is said by a run's parameters: how numbers are kept, and what a seed means. Some
# also refuse what Keras does.
_JAX = (
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_RANDOM_SEED_OFFSET",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
)


def keras() -> None:
    """Have Keras start as it comes, with the backend that KERAS_BACKEND names.

    Each layer that is not told otherwise takes a keras.json's `floatx`, `image_data_format` and
    `epsilon`. Other variables cut trainings short, or ask for what is not installed.
    """
    for variable in list(os.environ):
        if variable in _JAX or (variable.startswith("KERAS_") and variable != "KERAS_BACKEND"):
            del os.environ[variable]
    # Since this is no folder, Keras finds no keras.json in it, and writes none.
    os.environ["KERAS_HOME"] = os.devnull
