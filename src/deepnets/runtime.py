"""What must happen before or around the framework: environment, threads, determinism, logs.

`prepare` sets environment variables and therefore runs before the backend is imported; a variable
that the user has set wins. Nothing here imports a framework at module level.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import psutil

from deepnets.errors import UserError

_DEFAULT_BACKEND = "tensorflow"

# What a backend needs before it is imported. All of it is recorded with every run.
_FRAMEWORK_ENVIRONMENT = {
    "tensorflow": {
        # oneDNN's convolutions are several times faster, but TensorFlow leaves them off on CPUs
        # without AVX-512. The variable changes results in the last bits.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    },
    "jax": {
        # What `start_framework` sets by calls to TensorFlow, JAX only takes from here.
        "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    },
}

# The packages whose versions shape a training with a backend.
_BACKEND_LIBRARIES = {"tensorflow": ("tensorflow",), "jax": ("jax", "jaxlib")}

_LIBRARIES = ("tensorflow", "jax", "jaxlib", "keras", "numpy", "mlflow", "dvc", "deepnets")


def backend() -> str:
    """The Keras backend that this process trains with: KERAS_BACKEND, else TensorFlow."""
    return os.environ.get("KERAS_BACKEND") or _DEFAULT_BACKEND


def prepare() -> None:
    """Set the backend's environment variables where the user has not.

    Raises:
        UserError: KERAS_BACKEND names none that training runs on, or one that is not installed.
    """
    chosen = backend()
    if chosen not in _FRAMEWORK_ENVIRONMENT:
        raise UserError(
            f"KERAS_BACKEND: expected {' or '.join(_FRAMEWORK_ENVIRONMENT)}; "
            f"received {chosen!r}: correct or unset it"
        )
    if find_spec(chosen) is None:
        raise UserError(
            f"KERAS_BACKEND={chosen} needs {chosen}, which is not installed here: "
            + ("run `make jax`" if chosen == "jax" else "run `make setup`, or KERAS_BACKEND=jax")
        )
    os.environ["KERAS_BACKEND"] = chosen
    for key, value in _FRAMEWORK_ENVIRONMENT[chosen].items():
        os.environ.setdefault(key, value)


def start_framework() -> None:
    """Import the backend with our settings: deterministic kernels, GPU memory taken as needed."""
    prepare()
    with _quiet():
        import keras

    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    with _quiet():
        gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()
    # Its graph optimizer takes 7 of the 16 seconds of ResNet50's first step on two cores, and makes
    # no step faster that could be measured.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def describe() -> dict[str, Any]:
    """Hardware, settings and versions of this process, for the record of a run."""
    return {
        "hardware": {
            "cpu": _cpu_name(),
            "cores": len(psutil.Process().cpu_affinity())
            if hasattr(psutil.Process, "cpu_affinity")
            else os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "devices": _devices(),
            "platform": platform.platform(),
        },
        "settings": {"KERAS_BACKEND": backend()}
        | {
            key: os.environ[key]
            for key in (
                *_FRAMEWORK_ENVIRONMENT[backend()],
                "TF_NUM_INTRAOP_THREADS",
                "OMP_NUM_THREADS",
            )
            if key in os.environ
        },
        "versions": {"python": platform.python_version()} | library_versions(),
    }


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that a run's record names."""
    return _installed(_LIBRARIES)


def training_versions() -> dict[str, str]:
    """Those of the libraries that decide what a training computes; they name its backend."""
    return _installed((*_BACKEND_LIBRARIES[backend()], "keras", "numpy"))


def _installed(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _devices() -> list[str]:
    """Accelerators that the backend sees; empty where no framework has been imported."""
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        return [
            str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))
            for gpu in tf.config.list_physical_devices("GPU")
        ]
    if "jax" in sys.modules:
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    return []


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what native code writes to standard error, and show it only if the block fails.

    TensorFlow logs through absl before it looks at TF_CPP_MIN_LOG_LEVEL.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
