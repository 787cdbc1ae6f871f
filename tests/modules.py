"""Which modules of the package a module uses, read from its text."""

import ast
from functools import cache
from pathlib import Path

from project import ROOT

PACKAGE = ROOT / "src" / "deepnets"

# From the ground up: a folder imports from itself and from those before it.
LAYERS = (
    *("base", "config", "data", "networks", "training", "records", "evaluation"),
    *("tracking", "reporting", "stages", "grid", "commands"),
)


@cache
def imported(path: Path) -> frozenset[Path]:
    """Modules of this package that `path` itself imports, wherever in it."""
    modules: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deepnets":
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "deepnets"]
        for name in names:
            module = PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
            if name != "deepnets" and module.is_file():
                modules.add(module)
    return frozenset(modules)


@cache
def imports(path: Path) -> frozenset[Path]:
    """Modules of this package that `path` imports, directly or through others."""
    modules, waiting = set(), [path]
    while waiting:
        for module in imported(waiting.pop()) - modules:
            modules.add(module)
            waiting.append(module)
    return frozenset(modules)
