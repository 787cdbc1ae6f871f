"""What the machine is set up for: chosen, said in one line, recorded; a user's variables win."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest
import tensorflow as tf

import backends
import tiny
from deepnets.base.errors import UserError
from deepnets.config import params, registry
from deepnets.networks import models, overrides, runtime, views
from deepnets.records import machine
from project import ROOT, edit_yaml, environment

CPU = {
    "hardware": {
        "cpu": "Intel(R) Xeon(R) Processor @ 2.80GHz",
        "vector_instructions": "AVX-512",
        "cores": 2,
        "devices": [],
    },
    "settings": {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1"},
    "runtime": {
        "backend": "tensorflow",
        "precision": "float32",
        "onednn": True,
        "deterministic": True,
        "set_by_user": [],
    },
    "versions": {"python": "3.11.7", "tensorflow": "2.21.0", "jax": "0.8.1"},
}


def _with(**changes: dict[str, Any]) -> dict[str, Any]:
    return CPU | {group: {**CPU[group], **values} for group, values in changes.items()}


def test_a_cpu_in_one_line() -> None:
    assert machine.summary_line(CPU) == (
        "TensorFlow 2.21.0 on 2 cores (Intel Xeon 2.80GHz, AVX-512): oneDNN on, float32, "
        "deterministic"
    )


@pytest.mark.parametrize(
    ("cpu", "instructions", "cores", "said"),
    [
        ("AMD EPYC 7763 64-Core Processor", "AVX2", 1, "1 core (AMD EPYC 7763 64-Core, AVX2)"),
        ("Intel(R) Core(TM) i7 CPU @ 3.60GHz", "AVX", 4, "4 cores (Intel Core i7 3.60GHz, AVX)"),
        ("aarch64", "", 8, "8 cores (aarch64)"),
    ],
)
def test_other_cpus_in_one_line(cpu: str, instructions: str, cores: int, said: str) -> None:
    hardware = {"cpu": cpu, "vector_instructions": instructions, "cores": cores}
    assert f"TensorFlow 2.21.0 on {said}: " in machine.summary_line(_with(hardware=hardware))


def test_a_gpu_in_one_line() -> None:
    described = _with(
        hardware={"devices": ["NVIDIA H100 80GB HBM3"]},
        runtime={"gpu_memory": "as needed", "precision": "float32 (products in TF32)"},
    )
    assert machine.summary_line(described) == (
        "TensorFlow 2.21.0 on NVIDIA H100 80GB HBM3: memory as needed, "
        "float32 (products in TF32), deterministic"
    )
    described["hardware"]["devices"] *= 4
    assert "on NVIDIA H100 80GB HBM3 (the first of 4 GPUs): " in machine.summary_line(described)
    described["runtime"] |= {"devices": 2, "processes": 1}
    said = machine.summary_line(described)
    assert "on NVIDIA H100 80GB HBM3 (the first 2 of 4 GPUs): " in said
    assert ", each batch on 2 devices, float32" in said


def test_jax_in_one_line() -> None:
    described = _with() | {
        "runtime": {
            "backend": "jax",
            "precision": "float32",
            "deterministic": False,
            "set_by_user": ["KERAS_BACKEND"],
        },
        "settings": {"KERAS_BACKEND": "jax"},
    }
    assert machine.summary_line(described) == (
        "JAX 0.8.1 on 2 cores (Intel Xeon 2.80GHz, AVX-512): float32, not deterministic; "
        "set by you: KERAS_BACKEND=jax"
    )


def _process(then: str = "", **variables: str) -> tuple[dict[str, Any], str, list[str]]:
    """What a fresh process with these variables records, says of itself, and prints `then`."""
    code = (
        "import json, os; from deepnets.networks import runtime; runtime.start_framework(); "
        "os.environ['OMP_NUM_THREADS'] = '1'; "  # as a library may
        "from deepnets.records import machine; "
        "d = machine.describe(); print(json.dumps(d)); print(machine.summary_line(d)); "
    )
    result = subprocess.run(
        [sys.executable, "-c", code + then],
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    record, line, *printed = result.stdout.splitlines()
    return json.loads(record), line, printed


def test_without_variables_everything_is_chosen_and_recorded() -> None:
    record, line, _ = _process()
    ours = runtime.environment()
    assert {"KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS"} <= set(ours)
    assert record["settings"] == ours | {"OMP_NUM_THREADS": "1"}
    assert record["runtime"] == {
        "backend": "tensorflow",
        "precision": "float32",
        "onednn": True,
        "one_core_an_operation": "TF_NUM_INTRAOP_THREADS" in ours,
        "deterministic": True,
        "set_by_user": [],
    }
    assert {"cpu", "cores", "memory_gib", "devices", "platform"} <= set(record["hardware"])
    assert "oneDNN on, " in line
    assert line.endswith("float32, deterministic")
    assert "set by you" not in line


def test_a_users_variables_win_and_are_said() -> None:
    record, line, _ = _process(TF_ENABLE_ONEDNN_OPTS="0", TF_NUM_INTRAOP_THREADS="3")
    assert record["settings"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert record["runtime"]["onednn"] is False
    assert record["runtime"]["set_by_user"] == ["TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS"]
    assert line.endswith(
        ": oneDNN off, float32, deterministic; set by you: TF_ENABLE_ONEDNN_OPTS=0, "
        "TF_NUM_INTRAOP_THREADS=3"
    )


@pytest.mark.parametrize(
    "content",
    [
        '{"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.001, '
        '"backend": "torch"}',
        '{"floatx": "bfloat16"}',  # which Keras refuses
        "[]",
    ],
)
def test_a_users_keras_json_is_not_read(content: str, tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(content)
    record, line, (said,) = _keras(KERAS_HOME=str(tmp_path))
    assert said == "float32 channels_last 1e-07 tensorflow"
    assert record["runtime"]["precision"] == "float32"
    assert "set by you" not in line
    assert (tmp_path / "keras.json").read_text() == content


def test_none_is_written_and_nothing_else_of_keras_reaches_in(tmp_path: Path) -> None:
    theirs = {"KERAS_NNX_ENABLED": "1", "KERAS_MAX_EPOCHS": "none", "KERAS_BACKEND": "tensorflow"}
    _, line, (said,) = _keras(HOME=str(tmp_path), **theirs)
    assert said == "float32 channels_last 1e-07 tensorflow"
    assert line.endswith("set by you: KERAS_BACKEND=tensorflow")
    assert not list(tmp_path.iterdir())


def _keras(**variables: str) -> tuple[dict[str, Any], str, list[str]]:
    """Like `_process`, with Keras' own settings after it, in a line."""
    return _process(
        "import keras; c = keras.config; "
        "print(c.floatx(), c.image_data_format(), c.epsilon(), c.backend())",
        **variables,
    )


def test_what_makes_other_numbers_of_a_seed_is_taken_from_jax(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("JAX_ENABLE_X64", "JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("JAX_DISABLE_JIT", "1")
    overrides.keras()
    assert {key for key in os.environ if key.startswith("JAX_")} == {"JAX_DISABLE_JIT"}
    monkeypatch.setattr(runtime, "USERS", {"JAX_DISABLE_JIT"})
    assert "set by you: JAX_DISABLE_JIT=1" in machine.summary_line(machine.describe())


def test_a_flag_that_tensorflow_does_not_know_is_named() -> None:
    """It ends the process from within, so that no line of ours can follow."""
    result = subprocess.run(
        [sys.executable, "-c", "from deepnets.networks import runtime; runtime.start_framework()"],
        env=environment() | {"TF_XLA_FLAGS": "--nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode
    assert "Unknown flag in TF_XLA_FLAGS: --nonsense" in result.stderr


@pytest.mark.parametrize(
    ("cores", "threads"), [(1, ["1", "1"]), (2, ["1", "2"]), (8, [None, None])]
)
def test_two_cores_run_two_operations_side_by_side_and_one_computes_the_same(
    cores: int, threads: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cores", lambda: cores)
    variables = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    runtime.prepare()
    assert [os.environ.get(name) for name in variables] == threads
    assert runtime.one_core_an_operation() == (threads[0] is not None)
    assert runtime.prediction_threads() == min(cores, 2 if threads[0] else 1)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    assert not runtime.one_core_an_operation()


def test_a_value_that_tensorflow_does_not_know_is_not_taken_for_what_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "off")  # 0, 1, true and false are what it knows
    monkeypatch.setattr(runtime, "USERS", {"TF_ENABLE_ONEDNN_OPTS"})
    described = machine.describe()
    assert described["runtime"]["onednn"] is True
    assert "TF_ENABLE_ONEDNN_OPTS=off" in machine.summary_line(described)


class _Gpu:
    name = "/physical_device:GPU:0"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[_Gpu, bool]]:
    """TensorFlow believes in one GPU; returns the calls that set its memory growth."""
    device, calls = _Gpu(), []
    details = {"device_name": "NVIDIA H100", "compute_capability": (9, 0)}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [device])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, on: calls.append((gpu, on))
    )
    return calls


def test_a_gpus_memory_is_taken_as_needed(gpu: list[tuple[_Gpu, bool]]) -> None:
    runtime.start_framework()
    assert [on for _, on in gpu] == [True]
    described = machine.describe()
    assert described["hardware"]["devices"] == ["NVIDIA H100"]
    assert (
        "on NVIDIA H100: memory as needed, float32 (products in TF32), deterministic"
    ) in machine.summary_line(described)


def test_a_user_may_have_the_gpus_memory_taken_whole_and_full_float32(
    gpu: list[tuple[_Gpu, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setattr(runtime, "USERS", {"TF_FORCE_GPU_ALLOW_GROWTH", "NVIDIA_TF32_OVERRIDE"})
    line = machine.summary_line(machine.describe())
    assert "on NVIDIA H100: memory taken whole, float32, deterministic; set by you: " in line
    assert line.endswith("TF_FORCE_GPU_ALLOW_GROWTH=false, NVIDIA_TF32_OVERRIDE=0")


@pytest.fixture
def jax_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras runs on JAX with one GPU; nobody has set anything."""
    for key in ("XLA_PYTHON_CLIENT_PREALLOCATE", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(machine, "_devices", lambda: ["NVIDIA H100"])
    card = SimpleNamespace(compute_capability="9.0")
    config = SimpleNamespace(jax_default_matmul_precision=None)
    module = SimpleNamespace(devices=lambda: [card], config=config)
    monkeypatch.setitem(sys.modules, "jax", module)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "memory taken whole, float32 (products in TF32), deterministic"),
        (
            {"NVIDIA_TF32_OVERRIDE": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            "memory as needed, float32, deterministic",
        ),
    ],
)
@pytest.mark.usefixtures("jax_gpu")
def test_jax_on_a_gpu_is_what_its_variables_make_of_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert f" on NVIDIA H100: {said}" in machine.summary_line(machine.describe())


@pytest.mark.usefixtures("jax_gpu")
def test_what_a_try_has_shown_is_stronger_than_what_the_backend_says() -> None:
    assert "not deterministic" in machine.summary_line(machine.describe(deterministic=False))


# --- the backend that is chosen where nobody names one


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that are found; none at first, on a machine with an NVIDIA card."""
    packages: set[str] = set()
    monkeypatch.setattr(runtime, "find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(runtime, "_has_nvidia_gpu", lambda: True)
    for name in ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    return packages


JAX_WITH_CUDA = {"tensorflow", "jax", "jax_cuda12_plugin"}


@pytest.mark.parametrize(
    ("packages", "chosen"),
    [
        (JAX_WITH_CUDA, "jax"),
        ({"tensorflow", "jax", "jax_cuda13_plugin"}, "jax"),
        ({"tensorflow", "jax"}, "tensorflow"),  # which could not use the card
        ({"tensorflow"}, "tensorflow"),
        ({"jax"}, "jax"),
        (set(), "tensorflow"),  # whose absence is then explained
    ],
)
@pytest.mark.parametrize("has_card", [True, False])
def test_the_backend_follows_from_what_is_there(
    packages: set[str],
    chosen: str,
    has_card: bool,
    installed: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed |= packages
    monkeypatch.setattr(runtime, "_has_nvidia_gpu", lambda: has_card)
    only_for_the_card = chosen == "jax" and "tensorflow" in packages and not has_card
    assert runtime.chosen_backend() == ("tensorflow" if only_for_the_card else chosen)


@pytest.mark.parametrize(
    ("variable", "value", "chosen"),
    [
        ("KERAS_BACKEND", "tensorflow", "tensorflow"),
        ("KERAS_BACKEND", "", "jax"),
        ("CUDA_VISIBLE_DEVICES", "", "tensorflow"),
        ("CUDA_VISIBLE_DEVICES", "-1", "tensorflow"),
        ("CUDA_VISIBLE_DEVICES", "3", "jax"),
        ("JAX_PLATFORMS", "cpu", "tensorflow"),
        ("JAX_PLATFORMS", "cpu,cuda", "tensorflow"),
        ("JAX_PLATFORMS", "cuda", "jax"),
        ("JAX_PLATFORMS", "cuda,cpu", "jax"),
        ("JAX_PLATFORMS", "", "jax"),  # as if it were not set, says JAX
    ],
)
def test_a_user_may_name_the_backend_or_hide_the_card(
    variable: str,
    value: str,
    chosen: str,
    installed: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed |= JAX_WITH_CUDA
    monkeypatch.setenv(variable, value)
    assert runtime.chosen_backend() == chosen


def test_a_backend_that_is_named_wins_without_a_card(
    installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed |= {"tensorflow", "jax"}
    monkeypatch.setattr(runtime, "_has_nvidia_gpu", lambda: False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert runtime.chosen_backend() == "jax"


def test_where_neither_backend_is_installed_the_line_says_so(installed: set[str]) -> None:
    with pytest.raises(UserError, match="needs tensorflow, which is not installed here"):
        runtime.prepare()


# --- products of float32 numbers


def _tf32() -> bool:
    return bool(tf.config.experimental.tensor_float_32_execution_enabled())


@pytest.mark.parametrize(
    ("precision", "rounds"), [("float32", True), ("exact_float32", False), ("mixed_bfloat16", True)]
)
def test_exact_float32_is_exact_while_it_computes(precision: str, rounds: bool) -> None:
    assert _tf32()

    def fail() -> None:
        with runtime.products_in(precision):
            assert _tf32() == rounds
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert _tf32()


def test_exact_float32_asks_jax_for_its_highest_precision() -> None:
    code = """
import jax
for precision in ("float32", "exact_float32"):
    with runtime.products_in(precision):
        print(jax.config.jax_default_matmul_precision)
print(jax.config.jax_default_matmul_precision)
"""
    assert backends.on_jax(code).split() == ["None", "highest", "None"]


def test_exact_float32_is_a_precision_of_a_run_and_of_its_record(
    gpu: list[tuple[_Gpu, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    edit_yaml(path, lambda content: content["train"].update(precision="exact_float32"))
    run = params.load(path).run_params("vgg16-sgd-random", 0)
    assert run.precision == "exact_float32"
    asked = []
    products_in = runtime.products_in
    monkeypatch.setattr(
        runtime, "products_in", lambda precision: asked.append(precision) or products_in(precision)
    )
    monkeypatch.setitem(registry.architectures(), "vgg16", tiny.NETWORK)
    classifier = models.build("vgg16", 32, 0.5)
    with views.computing_in(classifier, run.precision):
        layers = [*classifier.get_layer("vgg16").layers, classifier.get_layer("logits")]
        assert {layer.compute_dtype for layer in layers} == {"float32"}
    assert asked == ["exact_float32"]
    described = machine.describe(run.precision)
    assert described["runtime"]["precision"] == "exact_float32"
    assert "exact_float32, deterministic" in machine.summary_line(described)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("fpu sse2 avx avx2 avx512f avx512_vnni", "AVX-512"),
        ("fpu sse2 avx avx2", "AVX2"),
        ("fpu sse2 avx", "AVX"),
        ("fpu sse2", ""),
    ],
)
def test_the_widest_vector_instructions_are_named(
    monkeypatch: pytest.MonkeyPatch, flags: str, named: str
) -> None:
    info = {"flags": flags, "model name": "A CPU"}
    monkeypatch.setattr(machine, "_cpuinfo", info.get)
    hardware = machine.describe()["hardware"]
    assert (hardware["cpu"], hardware["vector_instructions"]) == ("A CPU", named)
