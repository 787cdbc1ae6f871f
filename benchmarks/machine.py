"""The machine that something was measured on: what results are named after and headed by."""

import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deepnets.records.machine import describe as describe_machine
from deepnets.records.machine import processor

RESULTS = Path(__file__).parent / "results"


def describe() -> dict[str, Any]:
    """`deepnets.records.machine.describe`, with PyTorch where it is installed."""
    described = describe_machine()
    if find_spec("torch"):
        described["versions"]["torch"] = version("torch")
    return described


def path(machine: dict[str, Any], prefix: str = "") -> Path:
    """Where results of `machine` go, without an ending."""
    hardware = machine["hardware"]
    return RESULTS / f"{prefix}{slug(processor(hardware))}-{hardware['cores']}-cores"


def slug(name: str) -> str:
    """`name` as a part of the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def heading(machine: dict[str, Any]) -> str:
    """The first lines of a page of results, in Markdown."""
    hardware, versions = machine["hardware"], machine["versions"]
    libraries = ", ".join(
        f"{name} {versions[name]}" for name in ("tensorflow", "keras", "torch") if name in versions
    )
    where = f"# {processor(hardware)}, {hardware['cores']} cores"
    return f"{where}\n\nPython {versions['python']}, {libraries}."
