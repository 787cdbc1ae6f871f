"""Studies whose trainings are written down instead of run, and published for real."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

import trainings
from deepnets.base import files
from deepnets.records import results
from deepnets.stages import publish

FIRST, SECOND, THIRD = "vgg16-sgd-random", "vgg16-adam-random", "resnet50-sgd-random"


class Study:
    """The folder of a study whose trainings are written down instead of run."""

    def __init__(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str] | None,
        name: str = "digits of a study",
    ) -> None:
        self.folder, self._capsys = folder, capsys
        self.store = f"sqlite:///{folder}/mlflow.db"
        self.name = name
        trainings.study(folder, self.name, FIRST, SECOND, THIRD)

    def trained(
        self,
        run: str,
        accuracy: float | dict[int, float],
        loss: float = 0.5,
        test: float | None = None,
        validation: str = "b" * 64,
        model: bytes | None = None,
        **ends: int,
    ) -> None:
        """Write what a training leaves behind whose last epoch has this validation accuracy."""
        paths = trainings.paths(run)
        seeds = accuracy if isinstance(accuracy, dict) else {0: accuracy}
        numbers, origins = {}, {}
        for seed, value in seeds.items():
            rows = trainings.history(2)
            numbers[seed] = {
                **{"epochs": 2, "loss": 0.3, "accuracy": 0.91, "val_loss": loss},
                **{"val_accuracy": value, "best_epoch": 1, "best_val_accuracy": 0.99},
                **({"collapsed": 0, "diverged": 0} | ends),
            }
            origin = trainings.provenance(run, f"{self.name} {seed} {validation[0]}")
            origin["data"] = {"train": "a" * 64, "validation": validation}
            origins[str(seed)] = origin
            content = model or trainings.model(f"{run} {seed}")[:1000]
            files.write_bytes(paths.model(seed), content)
            files.seal(paths.model(seed))
        results.write_rows(paths.metrics_dir, dict.fromkeys(seeds, rows))
        files.write_json(paths.train, results.combine_seeds(numbers))
        files.write_json(paths.provenance, origins)
        if test is not None:
            tested = {seed: {"loss": 0.25, "accuracy": test} for seed in seeds}
            files.write_json(paths.test, results.combine_seeds(tested))

    def publish(self) -> str:
        """What `deepnets publish` prints."""
        assert self._capsys is not None
        self._capsys.readouterr()
        publish.main()
        printed = self._capsys.readouterr()
        return printed.out + printed.err

    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.store)

    def champion(self) -> str:
        """The name of the MLflow run whose model has the alias."""
        client = self.client()
        version = client.get_model_version_by_alias(self.name, "champion")
        return str(client.get_run(version.run_id).info.run_name)

    def registry(self) -> Any:
        """All that the store says of registered models."""
        client = self.client()
        return [
            model.to_proto().SerializeToString() for model in client.search_registered_models()
        ] + [dict(version) for version in client.search_model_versions()]
