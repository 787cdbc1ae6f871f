"""`dvc repro` for one study, and what a person wants to see when it has ended."""

import os
import subprocess
import sys
from pathlib import Path

from deepnets import lifeline, params, project
from deepnets.errors import UserError


def main(study: Path) -> None:
    """Rebuild what is out of date in the folder `study`, then show its result table."""
    if not (study / "dvc.yaml").is_file():
        raise UserError(f"{study} is no study: expected a folder with dvc.yaml and params.yaml")
    # DVC would remove what a stage wrote before the stage can refuse them.
    params.load(study / params.FILE)
    status = dvc("repro", "--keep-going", folder=study)
    if status:
        raise UserError(
            "a stage failed, see above; the stages that do not need it have run, and the same "
            "command goes on from there. `deepnets report` shows the runs that are finished"
        )
    from deepnets.stages import report

    print()
    print(report.terminal_table(study / report.RESULTS_TABLE))
    print(
        f"\nfigures: {study / project.REPORTS} (all runs), {study / 'metrics'}/RUN/figures (each "
        f"run)\nreport:  {study / report.TEXT}\n"
        f"MLflow:  {_relative(Path(sys.executable).parent)}/mlflow ui   "
        "(then open http://localhost:5000)"
    )


def dvc(*arguments: str, folder: Path) -> int:
    """Run DVC in `folder` so that its stages use this very Python; returns its exit status."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true"} | lifeline.environment()
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
