"""Bring MLflow level with the files of every run of the grid; a second time changes nothing."""

from deepnets import files, params, progress, project
from deepnets.live import Record


def main() -> None:
    """Publish the study's finished runs. A store that cannot be reached is a warning."""
    study = params.load()
    seeds = study.train.seeds
    finished, missing = [], []
    for name, entry in study.runs.items():
        paths = project.grid_run(name, entry.start)
        trained = files.read_json(paths.provenance) if paths.provenance.is_file() else {}
        there = [seed for seed in seeds if str(seed) in trained and paths.model(seed).is_file()]
        finished += [Record(paths, study.publish.experiment, seed, len(seeds)) for seed in there]
        if len(there) < len(seeds):
            missing.append(name)
    try:
        from deepnets import tracking
    except ImportError:
        print("mlflow is not installed here: run `deepnets publish` on a machine that has it")
        return
    try:
        client = tracking.connect()
        with progress.bar(len(finished), "publish", " runs") as bar:
            for record in finished:
                tracking.level(client, record)
                bar.update()
    except Exception as error:
        print(tracking.unreachable(error))
        return
    print(
        f"MLflow has {len(finished)} of {len(seeds) * len(study.runs)} runs in "
        f"{study.publish.experiment!r}"
        + (f"; not trained yet: {', '.join(missing)}" if missing else "")
    )
