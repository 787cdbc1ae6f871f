"""Wrong input: one line, a non-zero status, nothing written, and no traceback."""

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepnets.__main__ import main
from deepnets.base import files
from deepnets.data import mirrors
from deepnets.stages import report
from project import ROOT, Clone, Edit, edit_yaml, without


@pytest.fixture
def study(tmp_path: Path) -> Clone:
    """The tour's params.yaml in a folder of its own, outside any project."""
    shutil.copy(ROOT / "studies" / "tour" / "params.yaml", tmp_path)
    return Clone(tmp_path)


def _refused(study: Clone, *command: str) -> str:
    """Run a command that must fail, in a process of its own; returns its one line."""
    before = _files(study)
    result = study.run("deepnets", *command, check=False)
    line = _only_line(command[0], result.returncode, result.stdout, result.stderr)
    assert _files(study) == before
    return line


def _only_line(command: str, status: int, out: str, err: str) -> str:
    assert status == 1, out + err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith(f"deepnets {command}: ")
    assert "Traceback" not in out + err
    return lines[0]


@pytest.fixture
def refused(study: Clone, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """As `_refused`, in this process, which takes a tenth of the time."""

    def refused(*command: str) -> str:
        before = _files(study)
        capsys.readouterr()
        with contextlib.chdir(study.folder):
            status = main(command)
        line = _only_line(command[0], status, *capsys.readouterr())
        assert _files(study) == before
        return line

    return refused


def _files(study: Clone) -> dict[Path, int]:
    """When each file of a study was written; the empty file that is a run's lock is none."""
    paths = (path for path in study.folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.stat().st_mtime_ns for path in paths}


def _row(**values: object) -> Edit:
    return lambda params: params["runs"]["vgg16-sgd-he"].update(values)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_row(epochs=0), "epochs: expected greater than or equal to 1; received 0"),
        (_row(epochs="abc"), "epochs: expected a valid integer; received 'abc'"),
        (_row(optimiser="sgd"), "unknown key 'optimiser'; did you mean 'optimizer'?"),
        (_row(arch="vgg19"), "expected 'vgg16' or 'resnet50'; received 'vgg19'"),
        (_row(optimizer="lion"), "expected 'adam' or 'sgd'; received 'lion'"),
        (_row(weights="imgnet"), "received 'imgnet'"),
        (_row(train_images=3745), "expected 32 (a batch) to 3744"),
        (lambda p: p["preprocess"].update(validation_images=4000), "0 training images are left"),
        (lambda p: p["preprocess"].update(image_size=31), "greater than or equal to 32"),
    ],
)
def test_wrong_parameters(study: Clone, refused: Callable[..., str], edit: Edit, said: str) -> None:
    edit_yaml(study.folder / "params.yaml", edit)
    for command in (["train", "vgg16-sgd-he"], ["preprocess"], ["report"]):
        assert said in refused(*command)


@pytest.mark.parametrize("command", [["train", "vgg16-sgd-he"], ["preprocess"], ["report"]])
def test_a_wrong_parameter_in_a_process_of_its_own(study: Clone, command: list[str]) -> None:
    edit_yaml(study.folder / "params.yaml", _row(epochs=0))
    assert "epochs: expected greater than or equal to 1; received 0" in _refused(study, *command)


@pytest.mark.parametrize("text", ["", "runs: [", "- a\n- b\n", "a: 1\na: 2\n", "\tx: 1"])
def test_empty_or_malformed_params(study: Clone, refused: Callable[..., str], text: str) -> None:
    (study.folder / "params.yaml").write_text(text)
    assert "params.yaml" in refused("train", "vgg16-sgd-he")


@pytest.mark.parametrize("command", ["repro", "grid"])
def test_a_folder_that_is_no_study(refused: Callable[..., str], command: str) -> None:
    said = f"deepnets {command}: nowhere is no study: expected a folder with dvc.yaml and params."
    assert refused(command, "nowhere").startswith(said)


def test_no_params_at_all(tmp_path: Path) -> None:
    assert "params.yaml does not exist" in _refused(Clone(tmp_path), "preprocess")


def test_unknown_run(study: Clone) -> None:
    line = _refused(study, "train", "vgg16-sgd-hee")
    assert "no run is called 'vgg16-sgd-hee'" in line
    assert "vgg16-sgd-he," in line


def test_missing_data_names_the_file_and_the_stage(study: Clone) -> None:
    line = _refused(study, "train", "vgg16-sgd-he")
    assert "data/processed/train_images.npy is missing" in line
    assert "dvc repro" in line


def test_truncated_data(study: Clone) -> None:
    folder = study.folder / "data" / "raw"
    folder.mkdir(parents=True)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.save(folder / f"{name}.npy", np.zeros((5000, 28, 28), np.uint8))
    files.seal(*folder.iterdir())
    content = (folder / "test_images.npy").read_bytes()
    (folder / "test_images.npy").write_bytes(content[:1000])
    assert "test_images.npy is not the file that was written" in _refused(study, "preprocess")


def test_no_mirror_reachable(
    study: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_yaml(study.folder / "params.yaml", lambda p: p["download"].update(source="mnist"))
    for name in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("DEEPNETS_MIRROR", "/nowhere")
    # Between two tries it waits for seconds.
    monkeypatch.setattr(mirrors, "_RETRIES", 0)
    monkeypatch.chdir(study.folder)
    assert main(["download"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "MNIST could not be fetched (/nowhere: neither mnist.npz nor" in said
    assert "set DEEPNETS_MIRROR to a directory or URL" in said
    assert not list((study.folder / "data" / "raw").iterdir())


def test_a_full_disk_is_found_before_work(study: Clone) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small file system")
    data = study.folder / "data"
    data.mkdir()
    if os.system(f"mount -t tmpfs -o size=4m tmpfs {data} 2>/dev/null"):
        pytest.skip("mounting a small file system is not allowed here")
    try:
        line = _refused(study, "download")
        assert "data/raw has 4 MiB free" in line
        assert "free some space and run the same command again" in line
    finally:
        os.system(f"umount {data}")


def test_a_folder_that_cannot_be_written(study: Clone) -> None:
    (study.folder / "data").write_text("a file where a folder is expected")
    assert "cannot write to data/raw" in _refused(study, "download")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        # The system does not say whether it was to be read or written.
        (errno.EACCES, "cannot read or write models/a (Permission denied): get yourself the right"),
        (errno.EPERM, "cannot read or write models/a (Operation not permitted): get yourself"),
        (errno.EROFS, "cannot write models/a (Read-only file system): make it writable"),
    ],
)
def test_a_file_without_the_right_to_it(
    study: Clone,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    said: str,
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number), "models/a")

    monkeypatch.setattr(report, "main", refuse)
    with contextlib.chdir(study.folder):
        assert main(["report"]) == 1
    assert capsys.readouterr().err.startswith(f"deepnets report: {said}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs", "abc"], "epochs: expected a valid integer; received 'abc'"),
        (["--epochs", "0"], "greater than or equal to 1; received 0"),
        (["--arch", "resnet"], "expected 'vgg16' or 'resnet50'; received 'resnet'"),
        (["--train_images", "8"], "expected 32 (a batch) to 3744"),
        (["--optimizer", "adam", "--momentum", "0.9"], "momentum is not a setting of adam"),
        (["--learning-rate", "-1"], "learning_rate: expected greater than 0; received -1"),
        (["--seed", "1.5"], "seed: expected a valid integer"),
        (["--epochs", "[1"], "epochs: expected a plain value"),
    ],
)
def test_wrong_options_of_a_single_run(
    refused: Callable[..., str], options: list[str], said: str
) -> None:
    assert said in refused("run", *options)


def test_a_wrong_option_in_a_process_of_its_own(study: Clone) -> None:
    assert "epochs: expected a valid integer" in _refused(study, "run", "--epochs", "abc")


@pytest.mark.parametrize(
    ("command", "variables", "said"),
    [
        (["train", "vgg16-sgd-he"], {"DEEPNETS_DEVICES": "3"}, "a divisor of the batch size"),
        (["run"], {"DEEPNETS_DEVICES": "3"}, "a divisor of the batch size"),
        (["train", "vgg16-sgd-he"], {"KERAS_BACKEND": "tensorflow"}, "expected JAX"),
        (["run"], {"JAX_NUM_PROCESSES": "2"}, "expected one process for a run outside the grid"),
        (["grid"], {}, "expected one device a training in a grid"),
    ],
)
def test_devices_that_cannot_be_are_refused_before_anything(
    study: Clone,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    variables: dict[str, str],
    said: str,
) -> None:
    asked = {
        "KERAS_BACKEND": "jax",
        "DEEPNETS_DEVICES": "2",
        "JAX_COORDINATOR_ADDRESS": "first:1234",
        "JAX_PROCESS_ID": "0",
    }
    for variable, value in (asked | variables).items():
        monkeypatch.setenv(variable, value)
    before = _files(study)
    with contextlib.chdir(study.folder):
        assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"deepnets {command[0]}: ")
    assert said in line
    assert _files(study) == before


def test_wrong_usage_exits_with_2(study: Clone) -> None:
    for command in (["trian", "x"], ["train"], ["run", "--archs", "vgg16"]):
        assert study.run("deepnets", *command, check=False).returncode == 2
    assert study.run("deepnets", check=False).returncode == 2


def test_debug_shows_the_traceback(study: Clone) -> None:
    result = study.run("deepnets", "train", "nothing", "--debug", check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def _command(body: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """What a command that does `body` prints, in a process with these variables."""
    code = (
        "import sys, warnings; from deepnets import __main__ as line\n"
        f"def dispatch(arguments):\n    {body}\n    return 0\n"
        "line._dispatch = dispatch; sys.exit(line.main(['report']))"
    )
    return Clone(ROOT).run("python", "-c", code, env=variables, check=False)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_what_a_terminal_cannot_show_is_spelt_out(variables: dict[str, str]) -> None:
    result = _command(r"print('0.97 \u00b1 0.01, a \u2192 b, \udcff')", **variables)
    assert result.stdout == "0.97 +/- 0.01, a \\u2192 b, \\udcff\n"
    assert (result.returncode, result.stderr) == (0, "")


def test_what_it_can_show_it_shows() -> None:
    result = _command(r"print('0.97 \u00b1 0.01, a \u2192 b')", PYTHONIOENCODING="utf-8")
    assert result.stdout == "0.97 ± 0.01, a → b\n"


def test_a_users_wish_for_errors_ends_no_command() -> None:
    """Keras and NumPy warn as well, at the end of a training."""
    result = _command("warnings.warn('old', DeprecationWarning)", PYTHONWARNINGS="error")
    assert (result.returncode, result.stderr) == (0, "")


def test_figures_need_no_backend_of_a_users() -> None:
    result = _command(
        "import deepnets.reporting.diagrams, deepnets.reporting.curves", MPLBACKEND="none_such"
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_an_error_of_keras_has_no_escapes_of_a_terminal() -> None:
    result = _command(r"raise ValueError('\x1b[1mNo layer.\x1b[0m')")
    assert result.returncode == 1
    assert result.stderr.startswith("deepnets report: ValueError: No layer. (unexpected: ")


@pytest.mark.parametrize("command", ["", "train", "run", "repro", "predict"])
def test_help_helps(study: Clone, command: str) -> None:
    result = study.run("deepnets", *filter(None, [command]), "--help")
    assert "usage: deepnets" in result.stdout
    if command == "run":
        assert "--learning-rate" in result.stdout


def _train_on(backend: str, python: list[str], variables: dict[str, str]) -> str:
    """The one line on standard error when a training on `backend` is refused."""
    result = Clone(ROOT).run(
        *(*python, "-m", "deepnets", "train", "vgg16-sgd-random"),
        env=variables | {"KERAS_BACKEND": backend},
        check=False,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    return line


def test_an_unknown_backend_is_refused() -> None:
    line = _train_on("torch", ["python"], {"PYTHONPATH": str(ROOT / "src")})
    assert "KERAS_BACKEND: expected tensorflow or jax; received 'torch'" in line


@pytest.mark.parametrize(
    ("backend", "remedy"), [("jax", "make setup"), ("tensorflow", "KERAS_BACKEND=jax")]
)
def test_a_backend_that_is_not_installed_is_named_with_its_remedy(
    backend: str, remedy: str, tmp_path: Path
) -> None:
    line = _train_on(backend, *without(tmp_path / "site", backend))
    assert f"KERAS_BACKEND={backend} needs {backend}, which is not installed here" in line
    assert remedy in line
