"""The tests of device_epochs.py and several_devices.py, run on JAX in a process of their own."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from project import ON_JAX, environment

FOLDER = Path(__file__).parents[1]
FILES = [FOLDER / "device_epochs.py", FOLDER / "several_devices.py"]
NAMES = [
    name
    for file in FILES
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
]


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
    two = {"XLA_FLAGS": f"{ON_JAX['XLA_FLAGS']} --xla_force_host_platform_device_count=2"}
    subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", f"--junitxml={report}", *map(str, FILES)],
        env=environment() | ON_JAX | two | cache,
        cwd=FOLDER.parent,
        capture_output=True,
        check=False,
    )
    messages: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        wrong = messages.setdefault(case.attrib["name"].partition("[")[0], [])
        wrong += [
            f"{case.attrib['name']}\n{element.text}"
            for element in case
            if element.tag in ("failure", "error", "skipped")
        ]
    return messages


@pytest.mark.parametrize("name", NAMES)
def test_on_jax(name: str, failures: dict[str, list[str]]) -> None:
    assert not failures[name], "\n".join(failures[name])
