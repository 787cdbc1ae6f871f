"""Bring MLflow level with the files of every run of the grid; a second time changes nothing."""

from deepnets import params, project
from deepnets.live import Record


def main() -> None:
    """Publish the study's finished runs. A store that cannot be reached is a warning."""
    study = params.load()
    paths = [project.grid_run(name, entry.start) for name, entry in study.runs.items()]
    finished = [path for path in paths if path.train.is_file() and path.model.is_file()]
    missing = [path.name for path in paths if path not in finished]
    try:
        from deepnets import tracking
    except ImportError:
        print("mlflow is not installed here: run `deepnets publish` on a machine that has it")
        return
    try:
        client = tracking.connect()
        for path in finished:
            tracking.level(client, Record(path, study.publish.experiment))
    except Exception as error:
        print(tracking.unreachable(error))
        return
    print(
        f"MLflow has {len(finished)} of {len(paths)} runs in {study.publish.experiment!r}"
        + (f"; not trained yet: {', '.join(missing)}" if missing else "")
    )
