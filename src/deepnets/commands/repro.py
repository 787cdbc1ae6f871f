"""`dvc repro` for one study, and what a person wants to see when it has ended."""

import shlex
import sys
from contextlib import chdir
from pathlib import Path

from deepnets.base import dvc, files, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.tracking import live, pages


def main(study: Path) -> None:
    """Rebuild what is out of date in the folder `study`, then show its result table."""
    require_study(study)
    # DVC would remove what a stage wrote before the stage can refuse them.
    described = params.load(study / params.FILE)
    files.require_no_links(study)
    status = dvc.run("repro", "--keep-going", folder=study)
    if status:
        raise UserError(
            "`dvc repro` failed, see above: what has run by now stays, and the same command goes "
            "on from there. `deepnets report` shows the runs that are finished"
        )
    show(study, described)


def require_study(folder: Path) -> None:
    """Raise a UserError unless there is a study in `folder`."""
    if not (folder / "dvc.yaml").is_file():
        raise UserError(f"{folder} is no study: expected a folder with dvc.yaml and params.yaml")


def show(study: Path, described: params.Params) -> None:
    """Print the result table of the study in the folder `study`, and where to look further."""
    from deepnets.reporting import tables
    from deepnets.stages import report

    print()
    print(tables.terminal_table(study / report.RESULTS_TABLE))
    each = study / project.RUN_FIGURES
    print(
        f"\nfigures: {study / project.REPORTS} (all runs)"
        + (f", {each}/RUN (each run)" if each.is_dir() else "")
        + f"\nreport:  {study / report.TEXT}\n{_describe_mlflow(study, described)}"
    )


def _describe_mlflow(study: Path, described: params.Params) -> str:
    """How to see the study in MLflow: what to start, and the address to open then."""
    ui = f"{_relative_path(Path(sys.executable).parent)}/mlflow ui"
    # What `mlflow ui` shows where it is started without a word about the store.
    usual = f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    # The stages ran there, and their store is found from there.
    with chdir(study):
        page = pages.study_page(described.publish.experiment) if live.available() else None
        store, public = project.tracking_uri(), project.public_uri()
    if store.startswith("http"):
        return f"MLflow:  {page or public}"
    if page is None:
        return f"MLflow:  {ui}   (then open {pages.local_ui()})"
    if store != usual:
        # Only the variable can hold a password.
        named = shlex.quote(store) if store == public else '"$MLFLOW_TRACKING_URI"'
        ui += f" --backend-store-uri {named}"
    return f"MLflow:  {ui}   (then open what follows)\n         {page}"


def _relative_path(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
