"""What must happen before or around the framework: environment, threads, determinism, logs.

`prepare` sets environment variables and therefore runs before the backend is imported; a variable
that the user has set wins. `describe` says what came of it. Nothing here imports a framework at
module level.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from deepnets.base import project
from deepnets.base.errors import UserError
from deepnets.networks import overrides

# What each needs before it is imported.
_FRAMEWORK_ENVIRONMENT = {
    "tensorflow": {
        "KERAS_BACKEND": "tensorflow",
        # By itself TensorFlow 2.21 (core/util/port.cc) uses oneDNN only under Linux on CPUs with
        # AVX-512 VNNI or BF16, AVX-VNNI or AMX, and on Arm's Neoverse V1. Those that have AVX2 or
        # the first AVX-512 alone gain as well: with oneDNN held to AVX2 (ONEDNN_MAX_CPU_ISA) a
        # training step takes 41 instead of 50 ms an image in VGG-16 and 17 instead of 29 in
        # ResNet50, on two cores of a Xeon. The variable changes results in the last bits, so it is
        # recorded with every run.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    },
    "jax": {
        "KERAS_BACKEND": "jax",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    },
}
# So many processors a process of a grid may use; and what the grid has set for it, as `A,B`.
CORES, SET_BY_GRID = "DEEPNETS_CORES", "DEEPNETS_SET_BY_GRID"

# The variables that are the user's: `prepare` sets others, and so does Keras when it is imported.
USERS = frozenset(os.environ) - set(os.environ.get(SET_BY_GRID, "").split(","))


def chosen_backend() -> str:
    """The Keras backend that this process trains with.

    KERAS_BACKEND, else JAX where it is installed for NVIDIA's GPUs and there is one, or alone, else
    TensorFlow.
    """
    if chosen := os.environ.get("KERAS_BACKEND"):
        return chosen
    alone = find_spec("jax") is not None and find_spec("tensorflow") is None
    return "jax" if alone or has_gpu_for_jax() else "tensorflow"


def has_gpu_for_jax() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    unwanted = (os.environ.get("JAX_PLATFORMS") or "cuda").partition(",")[0] not in ("cuda", "gpu")
    if hidden or unwanted or not _has_nvidia_gpu():
        return False
    return any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))


def _has_nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def prepare() -> None:
    """Set the backend's environment variables where the user has not.

    Raises:
        UserError: KERAS_BACKEND names none that training runs on, or one that is not installed.
    """
    chosen = chosen_backend()
    if chosen not in _FRAMEWORK_ENVIRONMENT:
        raise UserError(
            f"KERAS_BACKEND: expected {' or '.join(_FRAMEWORK_ENVIRONMENT)}; "
            f"received {chosen!r}: correct or unset it"
        )
    if find_spec(chosen) is None:
        raise UserError(
            f"KERAS_BACKEND={chosen} needs {chosen}, which is not installed here: "
            + ("run `make setup`" if chosen == "jax" else "run `make setup`, or KERAS_BACKEND=jax")
        )
    for key, value in (environment() | compiled()).items():
        os.environ.setdefault(key, value)


def start_framework() -> None:
    """Import the backend with our settings: deterministic kernels, GPU memory taken as needed."""
    prepare()
    overrides.keras()
    with _quiet(), _briskly():
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


def compiled() -> dict[str, str]:
    """The variables by which JAX finds what it has compiled for a GPU, with the kernels measured.

    Where it has none, or its user has another place for that, there are none.
    """
    if not has_gpu_for_jax() or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return {}
    return {
        "JAX_COMPILATION_CACHE_DIR": str(project.root() / project.COMPILED),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def environment() -> dict[str, str]:
    """The variables that the backend is given on this machine where the user has set none."""
    chosen = chosen_backend()
    return _FRAMEWORK_ENVIRONMENT[chosen] | _threads(chosen)


def _threads(backend: str) -> dict[str, str]:
    """The variables for the backend's threads that are best here; none where that is not known.

    On two cores, two operations of TensorFlow side by side on one core each beat one after the
    other on both: waking the second core for every small operation takes longer than it saves. A
    core alone computes the same, to the bit, one operation after the other.
    """
    held = CORES in os.environ
    if backend == "jax":
        return {"NPROC": str(cores()), "OMP_NUM_THREADS": str(cores())} if held else {}
    if _has_nvidia_gpu():
        return {}
    if cores() <= 2:
        return {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": str(cores())}
    return {"TF_NUM_INTRAOP_THREADS": str(cores()), "TF_NUM_INTEROP_THREADS": "1"} if held else {}


def one_core_an_operation() -> bool:
    """Whether TensorFlow runs each operation on one core, as many side by side as there are."""
    return os.environ.get("TF_NUM_INTRAOP_THREADS") == "1" and on_tensorflow_cpu()


def prediction_threads() -> int:
    """How many batches to predict side by side."""
    return cores() if one_core_an_operation() else 1


def on_tensorflow_cpu() -> bool:
    """Whether training runs on TensorFlow without a GPU, where our own operations are faster."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def on_jax_gpu() -> bool:
    """Whether training runs on JAX with a GPU, where whole epochs run on the device."""
    import keras

    if keras.backend.backend() != "jax":
        return False
    import jax

    return bool(jax.default_backend() == "gpu")


# See openxla.org/xla/determinism. Kernels are chosen by measurement, but only among those that
# give the same bits each time; which were chosen is in the compiled program, and that is kept. XLA
# launches most of a step as a graph by itself. Convolutions could be put in there as well
# (xla_gpu_enable_command_buffer): a step was 4 to 7 % shorter, and programs that came from the
# cache ended in errors of the convolutions' library.
_GPU_OPTIONS = {
    "xla_gpu_exclude_nondeterministic_ops": True,
    # By itself XLA lays float32 images out channel by channel, and the library's kernels for tensor
    # cores then transpose them, and back again.
    "xla_gpu_force_conv_nhwc": True,
    # The vendor's products: at these sizes none of XLA's own is faster.
    "xla_gpu_enable_triton_gemm": False,
}


def compiler_options() -> dict[str, Any]:
    """XLA's options for programs of this project; none but on a GPU."""
    return dict(_GPU_OPTIONS) if on_jax_gpu() else {}


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Have products of float32 numbers computed exactly in the block for `exact_float32`.

    GPUs round the factors to TensorFloat-32 otherwise, which keeps 10 bits of each.
    """
    import keras

    if precision != "exact_float32":
        yield
    elif keras.backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    else:
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)


def cores() -> int:
    """Processors that this process may use."""
    there = os.cpu_count() or 1
    if hasattr(psutil.Process, "cpu_affinity"):
        there = len(psutil.Process().cpu_affinity())
    return min(there, int(os.environ.get(CORES, there)))


@contextmanager
def _briskly() -> Iterator[None]:
    """Import a framework without what only costs time: two of six seconds on two cores.

    Millions of new objects that stay set off one futile garbage collection after the other, now and
    in all that follows. Keras imports scikit-learn and Matplotlib, where they are, for wrappers and
    pictures that nothing here uses.
    """
    unused = [name for name in ("sklearn", "matplotlib") if name not in sys.modules]
    # Python takes None for a module that is not installed.
    sys.modules.update(dict.fromkeys(unused))  # type: ignore[arg-type]
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        for name in unused:
            del sys.modules[name]
        if collecting:
            gc.enable()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what native code writes to standard error, and show it only if the block fails.

    TensorFlow logs through absl before it looks at TF_CPP_MIN_LOG_LEVEL.
    """
    if "TF_XLA_FLAGS" in os.environ:
        # A flag that it does not know ends the process, and what it says of that must be seen.
        yield
        return
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
