"""The machine, settings and libraries that a training ran with, for its record and for people.

`settings` are environment variables; what the backend has made of them is asked of it.
"""

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from deepnets.networks import runtime
from deepnets.training import devices

_BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}


# What else a user may have set that changes how fast a run computes, or its last bits.
_USERS_ENVIRONMENT = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "NPROC",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "NVIDIA_TF32_OVERRIDE",
    "CUDA_VISIBLE_DEVICES",
    "JAX_PLATFORMS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_JIT",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "CUDA_MPS_PIPE_DIRECTORY",
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
    devices.VARIABLE,
    devices.PROCESSES,
)


# What computes on a GPU besides.
_GPU_LIBRARIES = (
    *("jax-cuda12-pjrt", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"),
    *("jax-cuda13-pjrt", "nvidia-cudnn-cu13", "nvidia-cublas"),
)


# The packages whose versions shape a training with a backend.
_BACKEND_LIBRARIES = {"tensorflow": ("tensorflow",), "jax": ("jax", "jaxlib")}


_LIBRARIES = ("tensorflow", "jax", "jaxlib", "keras", "numpy", "mlflow", "dvc", "deepnets")


def describe(
    precision: str = "float32",
    deterministic: bool | None = None,
    split: devices.Count | None = None,
) -> dict[str, Any]:
    """Hardware, settings and versions of this process, for the record of a run.

    `settings` holds environment variables, `runtime` what the backend has made of them.

    Args:
        precision: what is computed in.
        deterministic: what a try has shown; None for what the backend says of itself.
        split: `devices.Devices.shape` of a training; None for one device.
    """
    known = dict.fromkeys((*runtime.environment(), *_USERS_ENVIRONMENT))
    settings = {key: os.environ[key] for key in known if key in os.environ}
    accelerators = _devices()
    return {
        "hardware": {
            "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
            "vector_instructions": _vector_instructions(_cpuinfo("flags")),
            "cores": runtime.cores(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "devices": accelerators,
            "platform": platform.platform(),
        },
        "settings": settings,
        "runtime": {
            **_describe_runtime(precision, bool(accelerators)),
            **(split or {}),
            **({} if deterministic is None else {"deterministic": deterministic}),
            "set_by_user": [key for key in settings if key in runtime.USERS],
        },
        "versions": {"python": platform.python_version()} | library_versions(),
    }


def processor(hardware: Mapping[str, Any]) -> str:
    """`AMD EPYC (AVX-512)`, of `describe(...)["hardware"]`.

    Cloud machines give processors of several generations one name; the instructions tell them
    apart, which change speed and rounding.
    """
    instructions = hardware.get("vector_instructions")
    return f"{hardware['cpu']} ({instructions})" if instructions else str(hardware["cpu"])


def summary_line(described: Mapping[str, Any]) -> str:
    """What `describe` returned in a training process, for people.

    `TensorFlow 2.21.0 on 2 cores (Intel Xeon 2.80GHz, AVX-512): oneDNN on, float32, deterministic`
    """
    hardware, settings, runtime = (described[key] for key in ("hardware", "settings", "runtime"))
    backend, count = runtime["backend"], runtime.get("devices", 1)
    if hardware["devices"]:
        first, *others = hardware["devices"]
        some = "the first" if count == 1 else f"the first {count}"
        place = first + (f" ({some} of {len(others) + 1} GPUs)" if others else "")
    else:
        cores = f"{hardware['cores']} core" + ("s" if hardware["cores"] != 1 else "")
        chip = [_short_name(hardware["cpu"]), hardware["vector_instructions"]]
        place = f"{cores} ({', '.join(filter(None, chip))})"
    facts = []
    if "gpu_memory" in runtime:
        facts.append(f"memory {runtime['gpu_memory']}")
    elif "onednn" in runtime:
        facts.append("oneDNN on" if runtime["onednn"] else "oneDNN off")
    if runtime.get("one_core_an_operation"):
        facts.append("one core an operation")
    if count > 1:
        processes = runtime["processes"]
        of_all = f" of {processes} processes" if processes > 1 else ""
        facts.append(f"each batch on {count} devices{of_all}")
    facts.append(runtime["precision"])
    facts.append("deterministic" if runtime["deterministic"] else "not deterministic")
    theirs = [f"{key}={settings[key]}" for key in runtime["set_by_user"]]
    return (
        f"{_BACKENDS.get(backend, backend)} {described['versions'].get(backend, '')} on {place}: "
        + ", ".join(facts)
        + (f"; set by you: {', '.join(theirs)}" if theirs else "")
    )


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that a run's record names."""
    return _installed_versions((*_LIBRARIES, *_GPU_LIBRARIES))


def training_versions() -> dict[str, str]:
    """Those of the libraries that decide what a training computes; they name its backend."""
    chosen = runtime.chosen_backend()
    on_gpu = _GPU_LIBRARIES if chosen == "jax" and runtime.has_gpu_for_jax() else ()
    return _installed_versions((*_BACKEND_LIBRARIES[chosen], *on_gpu, "keras", "numpy"))


def _installed_versions(names: Sequence[str]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


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


def _describe_runtime(precision: str, on_gpu: bool) -> dict[str, Any]:
    """What the backend really does, asked of it where it can be; nothing where none is loaded."""
    if "keras" not in sys.modules:
        return {}
    import keras

    backend = keras.backend.backend()
    in_force: dict[str, Any] = {"backend": backend, "precision": precision}
    if backend == "tensorflow":
        import tensorflow as tf
        from tensorflow.python.framework.config import is_op_determinism_enabled
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled

        in_force |= {
            "onednn": IsMklEnabled(),
            "one_core_an_operation": runtime.one_core_an_operation(),
            "deterministic": is_op_determinism_enabled(),
        }
        if on_gpu:
            # This variable is stronger than set_memory_growth.
            grows = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH") != "false"
            in_force["gpu_memory"] = "as needed" if grows else "taken whole"
            if (
                precision == "float32"
                and _has_tf32(tf)
                and tf.config.experimental.tensor_float_32_execution_enabled()
            ):
                in_force["precision"] += " (products in TF32)"
    elif backend == "jax":
        in_force["deterministic"] = True
        if on_gpu:
            if precision == "float32" and _jax_rounds_to_tf32():
                in_force["precision"] += " (products in TF32)"
            preallocates = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
            grows = preallocates.lower() in ("0", "false")
            in_force["gpu_memory"] = "as needed" if grows else "taken whole"
    return in_force


def _has_tf32(tf: Any) -> bool:
    """Whether the GPU multiplies float32 in TensorFloat-32, as NVIDIA's do since Ampere (8.0)."""
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    gpu = tf.config.list_physical_devices("GPU")[0]
    details = tf.config.experimental.get_device_details(gpu)
    return bool(details.get("compute_capability", (0, 0)) >= (8, 0))


def _jax_rounds_to_tf32() -> bool:
    """As `_has_tf32`, on JAX's first GPU, where a user may have set another precision."""
    import jax

    known = getattr(jax.devices()[0], "compute_capability", "0")
    recent = float(known) >= 8 and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    return recent and jax.config.jax_default_matmul_precision in (None, "default", "tensorfloat32")


def _cpuinfo(field: str) -> str:
    """The first processor's `field` in Linux' /proc/cpuinfo; empty where there is none."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(field):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _vector_instructions(flags: str) -> str:
    """The widest vector instructions of an x86 CPU among its `flags`; empty for others."""
    have = set(flags.split())
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    return next((name for flag, name in names.items() if flag in have), "")


def _short_name(cpu: str) -> str:
    """`Intel Xeon 2.80GHz` for `Intel(R) Xeon(R) Processor @ 2.80GHz`."""
    return " ".join(re.sub(r"\((R|TM)\)|\b(Processor|CPU)\b|@", " ", cpu).split())
