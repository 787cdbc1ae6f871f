"""What must happen before or around the framework: environment, threads, determinism, logs.

`prepare` sets environment variables and therefore runs before TensorFlow is imported; a variable
that the user has set wins. Nothing here imports a framework at module level.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

# oneDNN's convolutions are several times faster, but TensorFlow leaves them off on CPUs without
# AVX-512. The variable changes results in the last bits, so it is recorded with every run.
_FRAMEWORK_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

_LIBRARIES = ("tensorflow", "jax", "keras", "numpy", "mlflow", "dvc", "deepnets")


def prepare() -> None:
    """Set the framework's environment variables where the user has not."""
    for key, value in _FRAMEWORK_ENVIRONMENT.items():
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


def on_tensorflow_cpu() -> bool:
    """Whether training runs on TensorFlow without a GPU, where our own operations are faster."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


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
        "settings": {
            key: os.environ[key]
            for key in (*_FRAMEWORK_ENVIRONMENT, "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
            if key in os.environ
        },
        "versions": {"python": platform.python_version()} | library_versions(),
    }


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    found = {}
    for name in _LIBRARIES:
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
