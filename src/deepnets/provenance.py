"""Where a run comes from: the fingerprint of everything that shapes it, and the code's commit."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from deepnets import files, project, runtime
from deepnets.params import RunParams

# The modules that decide what a training computes. Their text is part of the fingerprint.
TRAINING_MODULES = (
    "augment",
    "convolutions",
    "data",
    "models",
    "normalization",
    "optimizers",
    "runtime",
    "scores",
    "small_maps",
    "stages/train",
    "steps",
    "updates",
)

# What makes a working tree dirty; results that a pipeline writes as it runs do not.
_SOURCES = (
    "src",
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
    "requirements-jax.lock",
    "pyproject.toml",
)


def shape(run: RunParams, data: dict[str, str], start: str) -> dict[str, Any]:
    """Everything that shapes a training: parameters, data, starting weights, code, libraries.

    Args:
        run: resolved parameters.
        data: sha256 of each split that the training sees.
        start: sha256 of the starting weights.
    """
    package = Path(__file__).parent
    return {
        "parameters": run.flat,
        "data": data,
        "start": start,
        "code": {name: files.file_digest(package / f"{name}.py")[:16] for name in TRAINING_MODULES},
        "libraries": runtime.training_versions(),
    }


def fingerprint(shaped: dict[str, Any]) -> str:
    """sha256 over `shape`, as hex: the identity of a run."""
    return hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What shapes a training otherwise than another one, in words; both hold what `shape` gives."""
    found = _changes(before["parameters"], now["parameters"])
    found += [
        f"other {name} images"
        for name in now["data"]
        if before["data"].get(name) != now["data"][name]
    ]
    if before["start"] != now["start"]:
        found.append("other starting weights")
    code = {*before["code"], *now["code"]}
    changed = sorted(name for name in code if before["code"].get(name) != now["code"].get(name))
    if changed:
        found.append(f"changed code ({', '.join(changed)})")
    return found + _changes(before["libraries"], now["libraries"])


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`momentum 0.8, now 0.9` for every key that the two have not alike."""
    return [
        f"{key} {before.get(key, 'not there')}, now {now.get(key, 'not there')}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]


def git_state() -> dict[str, Any]:
    """Commit of the checkout, and whether code or parameters differ from it; None where unknown."""
    root = project.root()
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    study = Path.cwd()
    sources = [source for source in _SOURCES if (root / source).exists()]
    sources += [str(study / source) for source in _SOURCES if (study / source).exists()]
    changes = _git(root, "status", "--porcelain", "--", *sources)
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
