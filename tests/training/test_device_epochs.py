"""The tests of device_epochs.py, run on JAX in a process of their own."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from project import ON_JAX, environment

FILE = Path(__file__).parents[1] / "device_epochs.py"
NAMES = re.findall(r"^def (test_\w+)", FILE.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What went wrong, by the names of all tests that were run, skipped ones included."""
    folder = tmp_path_factory.mktemp("report")
    report = folder / "report.xml"
    # Several tests compile the same.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", f"--junitxml={report}", str(FILE)],
        env=environment() | ON_JAX | cache,
        cwd=FILE.parents[1],
        capture_output=True,
        check=False,
    )
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        wrong = found.setdefault(case.attrib["name"].partition("[")[0], [])
        wrong += [
            f"{case.attrib['name']}\n{of.text}"
            for of in case
            if of.tag in ("failure", "error", "skipped")
        ]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_on_jax(name: str, failures: dict[str, list[str]]) -> None:
    assert not failures[name], "\n".join(failures[name])
